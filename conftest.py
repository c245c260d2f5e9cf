def pytest_collectstart(collector):
    """nbval: what libraries write to stderr is not part of a notebook's result."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
