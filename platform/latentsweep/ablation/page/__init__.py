"""What a study's page says and shows. Imports design, statistics, pages, metrics."""
