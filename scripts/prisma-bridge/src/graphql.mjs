/**
 * Translates the GraphQL text that prisma-client-py writes into Prisma's JSON protocol, which is what the JavaScript
 * client's query compiler reads. Both carry the same tree of arguments and selections.
 */
import { Kind, parse } from 'graphql';
import { convertArguments } from './arguments.mjs';
import { QueryError } from './errors.mjs';
import { losslessParameters } from './raw.mjs';

/**
 * @typedef {object} JsonQuery
 * @property {string} [modelName]
 * @property {string} action
 * @property {{arguments: Record<string, unknown>, selection: Record<string, unknown>}} query
 *
 * @typedef {object} Selection one top-level field of a document
 * @property {string} key the name its result is returned under
 * @property {JsonQuery} query
 */

/** Field prefix, field suffix and action, longest first so that no name is cut short. */
const ACTIONS = [
  ['findUnique', 'OrThrow', 'findUniqueOrThrow'], ['findFirst', 'OrThrow', 'findFirstOrThrow'],
  ['createMany', 'AndReturn', 'createManyAndReturn'], ['updateMany', 'AndReturn', 'updateManyAndReturn'],
  ['findUnique', '', 'findUnique'], ['findFirst', '', 'findFirst'], ['findMany', '', 'findMany'],
  ['createOne', '', 'createOne'], ['createMany', '', 'createMany'], ['updateOne', '', 'updateOne'],
  ['updateMany', '', 'updateMany'], ['upsertOne', '', 'upsertOne'], ['deleteOne', '', 'deleteOne'],
  ['deleteMany', '', 'deleteMany'], ['aggregate', '', 'aggregate'], ['groupBy', '', 'groupBy'],
];
const RAW = new Set(['queryRaw', 'executeRaw']);

/**
 * @param {string} field for example `findUniqueUserOrThrow`
 * @param {import('./arguments.mjs').Schema} schema
 * @returns {{action: string, modelName?: string}}
 */
export function resolveField(field, schema) {
  if (RAW.has(field)) return { action: field };
  for (const [prefix, suffix, action] of ACTIONS) {
    if (!field.startsWith(prefix) || !field.endsWith(suffix)) continue;
    const modelName = field.slice(prefix.length, field.length - suffix.length);
    if (schema.has(modelName)) return { action, modelName };
  }
  throw new QueryError(`Unknown field in query: ${field}`);
}

/**
 * @param {import('./arguments.mjs').Schema} schema
 * @param {import('graphql').SelectionSetNode | undefined} set
 * @param {string | undefined} model
 * @returns {Record<string, unknown>}
 */
function selectionOf(schema, set, model) {
  /** @type {Record<string, unknown>} */
  const selection = {};
  for (const node of set?.selections ?? []) {
    if (node.kind !== Kind.FIELD) throw new QueryError('GraphQL fragments are not supported');
    const name = node.name.value;
    const related = schema.get(model ?? '')?.get(name)?.type; // none for `_count`, `_sum` …
    selection[name] = node.selectionSet || node.arguments?.length
      ? {
          arguments: convertArguments(schema, node.arguments, related),
          selection: selectionOf(schema, node.selectionSet, related),
        }
      : true;
  }
  return selection;
}

/**
 * @param {string} text one GraphQL document
 * @param {import('./arguments.mjs').Schema} schema
 * @returns {Selection[]}
 */
export function parseDocument(text, schema) {
  let document;
  try {
    document = parse(text, { noLocation: true });
  } catch {
    // The parser's message quotes the query, which may hold a key.
    throw new QueryError('The query is not valid GraphQL');
  }
  const [operation] = document.definitions;
  if (document.definitions.length !== 1 || operation.kind !== Kind.OPERATION_DEFINITION) {
    throw new QueryError('Exactly one GraphQL operation is expected');
  }
  return operation.selectionSet.selections.map((node) => {
    if (node.kind !== Kind.FIELD) throw new QueryError('GraphQL fragments are not supported');
    const resolved = resolveField(node.name.value, schema);
    const query = {
      arguments: convertArguments(schema, node.arguments, resolved.modelName),
      selection: selectionOf(schema, node.selectionSet, resolved.modelName),
    };
    if (typeof query.arguments.parameters === 'string') {
      query.arguments.parameters = losslessParameters(query.arguments.parameters);
    }
    return { key: (node.alias ?? node.name).value, query: { ...resolved, query } };
  });
}
