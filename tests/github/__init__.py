"""GitHub Actions: gates, the action and its workflows."""
