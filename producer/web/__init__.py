"""The dashboard: a process of its own that reads the ledger and asks the supervisor for everything that changes it.

gates.py session.py   who may speak to it            pages.py show.py charts/   what people see
api.py bodies.py      JSON in and out                hub.py stream.py           what happens, live
desk.py               the project: ledger, supervisor, configuration            serve.py   the process
"""
