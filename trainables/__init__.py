"""What a trial trains and measures: models, losses, schedules, samplers, loops, evaluation and figures.

Nothing here knows of Ray, MLflow or the command line: every function takes its configuration, its data and
a ``report`` callable, and can be read, tested and run by itself.
"""
