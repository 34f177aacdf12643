"""What a study's numbers come to: effects, ratios, gaps, power, verdicts. Imports metrics, pages and measures."""
