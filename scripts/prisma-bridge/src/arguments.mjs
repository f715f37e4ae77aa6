/**
 * Turns the arguments of a GraphQL field into those of Prisma's JSON protocol. The query compiler converts most strings
 * by itself (dates, decimals, bytes, enum values), but it takes a string given for a Json column for a JSON string,
 * where the engine takes it for JSON text. So the walk below knows which model and field it stands on.
 */
import { Kind } from 'graphql';
import { QueryError } from './errors.mjs';

/**
 * @typedef {{kind: string, type: string}} Field
 * @typedef {ReadonlyMap<string, ReadonlyMap<string, Field>>} Schema model name to field name to field
 *
 * Where in an argument tree a value stands:
 * - arguments: names are `where`, `data`, `take` …
 * - input:     names are fields of the model, or AND, OR, NOT, a compound key …
 * - relation:  names are `create`, `connect`, `some`, `is` …
 * - scalar:    a value or an operator object (`equals`, `set`, `increment` …) of one field
 * @typedef {{at: 'arguments' | 'input' | 'relation' | 'scalar', model?: string, field?: Field}} Place
 */

/** Arguments that hold fields of the model, at the top and in nested writes. */
const FIELD_ARGUMENTS = new Set(['where', 'data', 'create', 'update', 'cursor', 'having']);
const RELATION_OPERATORS = new Set([
  'some', 'every', 'none', 'is', 'isNot', 'create', 'connect', 'set', 'disconnect', 'delete', 'deleteMany',
]);
/** Nested writes that have arguments of their own, such as `update: {where: …, data: …}`. */
const ENVELOPES = new Set(['update', 'updateMany', 'upsert', 'connectOrCreate', 'createMany']);
const ENVELOPE_NAMES = new Set(['where', 'data', 'create', 'update', 'skipDuplicates']);
/** Operators on a Json column whose operand is not JSON. */
const PLAIN_JSON_OPERATORS = new Set(['path', 'mode', 'string_contains', 'string_starts_with', 'string_ends_with']);
const JSON_NULLS = new Set(['DbNull', 'JsonNull', 'AnyNull']);

/**
 * @param {Schema} schema
 * @param {Place} place
 * @param {string} name
 * @param {import('graphql').ValueNode} value
 * @returns {Place | undefined} undefined: nothing below needs the schema
 */
function step(schema, place, name, value) {
  const { at, model } = place;
  if (at === 'arguments') return FIELD_ARGUMENTS.has(name) ? { at: 'input', model } : undefined;
  if (at === 'scalar') {
    return place.field?.type === 'Json' && PLAIN_JSON_OPERATORS.has(name) ? undefined : place;
  }
  if (at === 'relation') {
    if (RELATION_OPERATORS.has(name)) return { at: 'input', model };
    if (ENVELOPES.has(name)) return { at: isEnvelope(value) ? 'arguments' : 'input', model };
  }
  const field = schema.get(model ?? '')?.get(name);
  if (!field) return { at: 'input', model };
  return field.kind === 'object' ? { at: 'relation', model: field.type } : { at: 'scalar', field };
}

/**
 * `update: {…}` of a to-one relation may hold the fields directly.
 * @param {import('graphql').ValueNode} node
 * @returns {boolean}
 */
function isEnvelope(node) {
  if (node.kind === Kind.LIST) return node.values.every(isEnvelope);
  return node.kind === Kind.OBJECT && node.fields.every((field) => ENVELOPE_NAMES.has(field.name.value));
}

/**
 * @param {string} text digits as written in the query
 * @param {string | undefined} type of the field
 * @param {boolean} integer
 * @returns {unknown}
 */
function number(text, type, integer) {
  if (type === 'Decimal') return { $type: 'Decimal', value: text };
  const value = Number(text);
  if (!integer || type === 'Float' || Number.isSafeInteger(value)) return value;
  // Past 2^53 a JavaScript number would silently become another number; the tagged form keeps every digit.
  return { $type: 'BigInt', value: text };
}

/**
 * @param {Schema} schema
 * @param {import('graphql').ValueNode} node
 * @param {Place | undefined} place
 * @returns {unknown}
 */
function convert(schema, node, place) {
  const type = place?.at === 'scalar' ? place.field?.type : undefined;
  switch (node.kind) {
    case Kind.OBJECT:
      return Object.fromEntries(node.fields.map(({ name, value }) =>
        [name.value, convert(schema, value, place && step(schema, place, name.value, value))]));
    case Kind.LIST:
      return node.values.map((item) => convert(schema, item, place));
    case Kind.NULL:
      return null;
    case Kind.INT:
      return number(node.value, type, true);
    case Kind.FLOAT:
      return number(node.value, type, false);
    case Kind.ENUM:
      return { $type: 'Enum', value: node.value };
    case Kind.VARIABLE:
      throw new QueryError('GraphQL variables are not supported');
    case Kind.STRING:
      if (type !== 'Json') return node.value;
      return { $type: JSON_NULLS.has(node.value) ? 'Enum' : 'Json', value: node.value };
    default:
      return node.value;
  }
}

/**
 * @param {Schema} schema
 * @param {readonly import('graphql').ArgumentNode[] | undefined} nodes
 * @param {string | undefined} model
 * @returns {Record<string, unknown>}
 */
export function convertArguments(schema, nodes, model) {
  return Object.fromEntries((nodes ?? []).map(({ name, value }) =>
    [name.value, convert(schema, value, step(schema, { at: 'arguments', model }, name.value, value))]));
}
