"""One folder for each verb, request to report, and the handlers that core offers.

Imports only `models` and what is below it. Never prints.
"""
