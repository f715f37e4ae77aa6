"""Runs LiteLLM's own job that deletes old usage, once, as the gateway does. By LiteLLM's Python, with DATABASE_URL.

python spend_log_cleanup.py CONFIG
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import yaml
from litellm.caching.caching import DualCache
from litellm.proxy.db.db_transaction_queue.spend_log_cleanup import SpendLogCleanup
from litellm.proxy.utils import PrismaClient, ProxyLogging


async def main(config: str) -> None:
    settings = yaml.safe_load(Path(config).read_text("utf-8"))["general_settings"]
    client = PrismaClient(os.environ["DATABASE_URL"], ProxyLogging(user_api_key_cache=DualCache()))
    await client.connect()
    await SpendLogCleanup(general_settings=settings).cleanup_old_spend_logs(client)
    await client.disconnect()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
