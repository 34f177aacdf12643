"""What a user starts: a sweep, a study, a retraining, an evaluation. Imports every room but commands."""
