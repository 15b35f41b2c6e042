"""Azure Pipelines without Azure DevOps: the packed task, the templates, and who approved, by the documented rules."""
