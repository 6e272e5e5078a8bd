"""Hydra multirun sweeps: starting one, its jobs, its summary, its launchers, and going on with it.

All state is read from the jobs' folders, so it holds whichever process ran a job, and however that process ended.
"""
