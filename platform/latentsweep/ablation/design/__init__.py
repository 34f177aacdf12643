"""What a study compares: components, arms, contrasts, its plan, equal wall time. Imports pages, search, stages."""
