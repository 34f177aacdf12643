"""Everything that talks to MLflow: recorder, registry, server and UI."""
