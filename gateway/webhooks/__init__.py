"""Webhooks to teams: their log, their signatures, their bodies, and the task that sends them."""
