"""What runs tell a recorder, and what may be said. Imports lints, search, stages, storage."""
