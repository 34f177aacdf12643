"""Everything that talks to MLflow: recorder, registry, server and UI."""

import os

# Set before the first import of mlflow, which reads them while it loads: nothing is sent to
# anybody else's server, and no bars of MLflow's run through our own display.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

# MLflow prints the address of every run that ends, with the password that the tracking URI may hold.
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
