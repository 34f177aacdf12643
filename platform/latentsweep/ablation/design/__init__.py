"""What a study compares: components, arms, contrasts, its plan, equal wall time."""
