"""What a study's page says and shows. Imports statistics, report, metrics."""
