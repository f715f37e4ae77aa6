"""The tables that usage and backups read, and a way to them that is not the one under test."""

from __future__ import annotations

import os
from typing import Any

import psycopg2

from stack.runtime import postgres
from stack.runtime.database import Database
from stack.runtime.layout import Layout

LAYOUT = Layout.from_environ({"ENVS_DIR": os.environ.get("ENVS_DIR", "")})
# Of LiteLLM 1.108's migrations; tests/bridge asks the same questions of all of them.
SCHEMA = """
CREATE TABLE "LiteLLM_SpendLogs" (
  request_id text PRIMARY KEY, call_type text NOT NULL, api_key text NOT NULL DEFAULT '',
  prompt_tokens integer NOT NULL DEFAULT 0, completion_tokens integer NOT NULL DEFAULT 0,
  "startTime" timestamp(3) NOT NULL, "endTime" timestamp(3) NOT NULL, "completionStartTime" timestamp(3),
  model text NOT NULL DEFAULT '', model_group text DEFAULT '', status text,
  metadata jsonb DEFAULT '{}', request_tags jsonb DEFAULT '[]');
CREATE INDEX ON "LiteLLM_SpendLogs" ("startTime");
CREATE TABLE "LiteLLM_VerificationToken" (token text PRIMARY KEY, key_alias text);
CREATE TABLE "LiteLLM_DeletedVerificationToken" (id text PRIMARY KEY, token text NOT NULL, key_alias text,
  deleted_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE "_prisma_migrations" (migration_name text PRIMARY KEY, finished_at timestamptz);
INSERT INTO "_prisma_migrations" VALUES ('20260101000000_one', now());
"""


def url(port: int | str, name: str) -> str:
    return f"postgresql://{postgres.USER}:secret@127.0.0.1:{port}/{name}"


def connect(reached: Database) -> Any:
    connection = psycopg2.connect(url(reached.options[3], reached.name))
    connection.autocommit = True
    return connection
