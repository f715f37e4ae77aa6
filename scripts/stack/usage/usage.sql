-- What was asked of the gateway, from LiteLLM's own tables, as one JSON object. Run by query.py with psql, read-only.
--   since, until   UTC, as LiteLLM keeps its times; until is not included
--   edges          where the periods of `by period` begin, UTC, ascending
--   dimensions     of model, key, period, client: those that are wanted
-- One look at the table: what the groups need is taken from each row once. A row of LiteLLM's ordinary way has 3 kB of
-- `metadata` beside it, which is read for failed requests and, where the tags do not say it, for the client only.
WITH names AS (
  SELECT token, key_alias AS alias, false AS deleted FROM "LiteLLM_VerificationToken"
  UNION ALL
  (SELECT DISTINCT ON (token) token, key_alias, true
   FROM "LiteLLM_DeletedVerificationToken" AS gone
   WHERE NOT EXISTS (SELECT FROM "LiteLLM_VerificationToken" AS kept WHERE kept.token = gone.token)
   ORDER BY token, deleted_at DESC)
), rows AS MATERIALIZED (
  SELECT
    -- Requests that were refused before LiteLLM looked for the model have it under `model` only.
    CASE WHEN 'model' = ANY (:'dimensions'::text[]) THEN
      left(coalesce(nullif(log.model_group, ''), nullif(regexp_replace(log.model, '^hosted_vllm/', ''), '')), 100)
    END AS model,
    -- Keys that are not there and never were are one: somebody may try many.
    CASE WHEN names.token IS NOT NULL OR log.api_key = 'litellm_proxy_master_key' THEN log.api_key END AS key,
    CASE WHEN 'period' = ANY (:'dimensions'::text[]) THEN
      width_bucket(log."startTime", :'edges'::timestamp[])
    END AS period,
    -- The program without its version: OpenAI/Python of "OpenAI/Python 2.3.0", claude-cli of "claude-cli/2.1.0 (cli)".
    CASE WHEN 'client' = ANY (:'dimensions'::text[]) THEN
      nullif(left(regexp_replace(split_part(
        coalesce(
          CASE WHEN log.request_tags ->> -1 LIKE 'User-Agent: %' THEN substr(log.request_tags ->> -1, 13) END,
          log.metadata ->> 'user_agent'
        ), ' ', 1
      ), '/v?[0-9].*$', ''), 100), '')
    END AS client,
    log.status IS DISTINCT FROM 'failure' AS answered,
    CASE WHEN log.status = 'failure' THEN log.metadata #>> '{error_information,error_code}' END AS code,
    log.prompt_tokens AS tokens_in,
    log.completion_tokens AS tokens_out,
    extract(epoch FROM log."endTime" - log."startTime")::float8 AS seconds,
    -- An answer in one piece has no first token of its own: there LiteLLM puts the end.
    CASE WHEN log."completionStartTime" < log."endTime" THEN
      extract(epoch FROM log."completionStartTime" - log."startTime")::float8
    END AS first
  FROM "LiteLLM_SpendLogs" AS log
  LEFT JOIN names ON names.token = log.api_key
  WHERE log."startTime" >= :'since'::timestamp AND log."startTime" < :'until'::timestamp
), groups AS (
  SELECT dimension, counted.*
  FROM unnest(:'dimensions'::text[] || '{code,total}'::text[]) AS dimension
  CROSS JOIN LATERAL (
    SELECT
      CASE dimension WHEN 'model' THEN model WHEN 'key' THEN key WHEN 'period' THEN period::text
        WHEN 'client' THEN client WHEN 'code' THEN code END AS name,
      count(*) AS requests,
      count(*) FILTER (WHERE answered) AS answered,
      count(*) FILTER (WHERE code = '499') AS cancelled,
      coalesce(sum(tokens_in) FILTER (WHERE answered), 0) AS tokens_in,
      coalesce(sum(tokens_out) FILTER (WHERE answered), 0) AS tokens_out,
      coalesce(sum(seconds) FILTER (WHERE answered), 0) AS seconds,
      percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE answered) AS latency,
      percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY first) FILTER (WHERE answered) AS ttft
    FROM rows
    WHERE dimension <> 'code' OR NOT answered
    GROUP BY 1
  ) AS counted
)
SELECT jsonb_build_object(
  'groups', coalesce((SELECT jsonb_agg(to_jsonb(groups)) FROM groups), '[]'),
  'keys', coalesce((
    SELECT jsonb_agg(jsonb_build_object('token', token, 'alias', alias, 'deleted', deleted))
    FROM names WHERE token IN (SELECT name FROM groups WHERE dimension = 'key')
  ), '[]')
);
