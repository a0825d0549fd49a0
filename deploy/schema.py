"""Makes or upgrades the tables of runs and of users: in one process, before any other connects.

Two processes that find an empty database would both begin to fill it.
"""

import os

from mlflow.db import upgrade as upgrade_runs
from mlflow.server.auth.db.cli import upgrade as upgrade_users

if __name__ == "__main__":
    database = os.environ["MLFLOW_BACKEND_STORE_URI"]
    upgrade_runs.main([database], standalone_mode=False)
    upgrade_users.main(["--url", database], standalone_mode=False)
