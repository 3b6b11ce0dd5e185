"""What documents of several kinds are made of.

============  =============================================================================
``values``    finite numbers, shares, names, prompts
``shared``    head, model, site, request, second moment, verdict
``arms``      what one arm of a performed edit is measured by
``cells``     keys and sinks block by block
============  =============================================================================
"""
