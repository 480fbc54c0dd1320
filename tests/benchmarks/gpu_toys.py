"""Parts of a check that hold, hang and die; other processes import them quickly."""

import os
import time


def hold(options):
    return {"detail": f"process {os.getpid()}", "process": os.getpid()}


def hang(options):
    time.sleep(60)
    return {"detail": "too late"}


def die(options):
    os._exit(5)
