"""Azure Pipelines without Azure DevOps: its templates, its schema and its order of stages, by the documented rules."""
