"""report.html: what a reader who knows nothing of the code opens to learn which encoder to take. Reads tables only."""
