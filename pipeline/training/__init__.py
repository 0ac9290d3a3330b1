"""Training: an encoder, parallel texts and the batches that a sampling strategy draws become a trained encoder.

In: Encoder, ParallelText, functions that draw batches, TrainerConfig. Out: the encoder trained in place, its training
curve and the language pairs it saw; checkpoints in a folder, from which a killed training resumes.
Read fit.py first, then module.py (one training step) and losses.py.
"""
