#!/usr/bin/env node
/**
 * Generates the JavaScript client the bridge runs on.
 *
 *   node generate.mjs SCHEMA_IN [OUT_DIR]        OUT_DIR defaults to ./client beside this file
 *
 * LiteLLM's schema asks for a Python client and the downloaded engine. The same models are used here, with a
 * generator block of our own. Nothing is downloaded: `engineType = "client"` compiles queries in WebAssembly that is
 * part of the npm package.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const HERE = dirname(fileURLToPath(import.meta.url));

/**
 * Replaces every generator block of a Prisma schema.
 * @param {string} schema text of schema.prisma
 * @param {string} outDir absolute folder of the generated client
 * @returns {string}
 */
export function rewriteSchema(schema, outDir) {
  // Braces cannot nest inside a generator block, so the first line that is only "}" ends it.
  const models = schema.replace(/^[ \t]*generator\s+\w+\s*\{[\s\S]*?^[ \t]*\}[ \t]*$/gm, '');
  return `generator bridge {
  provider   = "prisma-client-js"
  engineType = "client"
  output     = ${JSON.stringify(outDir)}
}

${models.trimStart()}`;
}

/**
 * @param {string} schemaPath
 * @param {string} outDir
 * @returns {void}
 */
export function generate(schemaPath, outDir) {
  const require = createRequire(import.meta.url);
  const cli = require.resolve('prisma/build/index.js');
  // Inside this package: the generate command looks upwards from the schema for package.json and @prisma/client, and
  // would try to install them when it finds none.
  const work = mkdtempSync(join(HERE, '.generate-'));
  try {
    const schema = join(work, 'schema.prisma');
    writeFileSync(schema, rewriteSchema(readFileSync(schemaPath, 'utf8'), outDir));
    // The generate command looks for an engine file before it knows that this generator needs none, and downloads one
    // when these names lead nowhere. Any existing file satisfies it; it is never loaded.
    const placeholder = join(work, 'unused-engine');
    writeFileSync(placeholder, '#!/bin/sh\nexit 0\n', { mode: 0o755 });
    const env = { ...process.env };
    // These belong to the Python client's set-up; the JavaScript generator would read them as its own.
    for (const name of ['PRISMA_CLIENT_ENGINE_TYPE', 'PRISMA_ENGINE_PROTOCOL', 'PRISMA_QUERY_ENGINE_BINARY']) {
      delete env[name];
    }
    const done = spawnSync(process.execPath, [cli, 'generate', '--no-hints', '--schema', schema], {
      cwd: work,
      env: {
        ...env,
        PRISMA_QUERY_ENGINE_LIBRARY: placeholder,
        PRISMA_SCHEMA_ENGINE_BINARY: placeholder,
        DATABASE_URL: env.DATABASE_URL ?? 'postgresql://unused@localhost/unused',
        PRISMA_ENGINES_CHECKSUM_IGNORE_MISSING: '1',
        PRISMA_SKIP_POSTINSTALL_GENERATE: '1',
        PRISMA_HIDE_UPDATE_MESSAGE: '1',
        CHECKPOINT_DISABLE: '1', // no version check over the network
        npm_config_ignore_scripts: 'true',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      encoding: 'utf8',
    });
    if (done.status !== 0 || !existsSync(join(outDir, 'index.js'))) {
      throw new Error(`prisma generate failed (exit ${done.status})\n${done.stdout}\n${done.stderr}`);
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(resolve(process.argv[1])).href) {
  const [schemaIn, outDir = join(HERE, 'client')] = process.argv.slice(2);
  if (!schemaIn) {
    console.error('usage: node generate.mjs SCHEMA_IN [OUT_DIR]');
    process.exit(2);
  }
  try {
    generate(resolve(schemaIn), resolve(outDir));
    console.log(`generated ${resolve(outDir)}`);
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}
