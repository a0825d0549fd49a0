"""Many networks trained at once as one batched tensor program.

Axis letters: K slots, B batch, N rows, D features, H hidden units, C outputs, P parameters.
A tensor with a K axis lives in this package; outside it a slot is a number and a result an array.
"""
