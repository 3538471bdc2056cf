"""The laboratory of the testbed: what wrote its corpus files, trained its models and measured them.

Part of a checkout, not of the wheel: users of the package need the weights and the prompts (`refusal_lens.testbed`), not
what made them. `refusal-lens testbed train|corpus|evaluate` are its commands.
"""
