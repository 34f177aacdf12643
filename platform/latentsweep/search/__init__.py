"""What is searched, and what was found: plans, studies, their databases, the leaderboard. Imports stages."""
