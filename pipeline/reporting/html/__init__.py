"""report.html: one file that tells a reader who knows nothing of the code which system to deploy. Reads tables only.

write.py assembles it: sentences (verdict.py, findings.py) and tables come from Python, figures are drawn by report.js.
"""
