"""How work runs: Ray, its workers, packing, supervision, what is seen meanwhile. Imports search, stages, storage."""
