"""Runs jobs: submits orders, tracks them, fetches and stores the images.

`gateway/jobs` decides which changes of a job are allowed.
"""
