"""Texts that several of the tests begin with."""

MINIMAL = """\
project_name: shop
budget:
  project_ceiling_usd: 20
  agents:
    code:
      daily_cap_usd: 5
"""
