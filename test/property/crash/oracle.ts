/**
 * Whether a recovered filesystem is one that the history allows (data=ordered):
 *
 *  - its tree is that of one version, not older than what fsync promised and not newer than what was under way;
 *  - each byte of a file has a value that it had in that version or a later one, or that was being written: data
 *    overwritten in place is not ordered with metadata, but is never older than the last fsync of the file;
 *  - with data=journal each file has exactly the bytes of that version;
 *  - nothing else is ever seen: not another file's bytes, not what lay in a block before.
 */
import type { RecoveredFile } from '../../../src/crash/recovered.js';
import { treeText, type Version } from './model.js';
import type { Promised, Recorded } from './workload.js';

export interface Allowed {
  readonly oldest: number;
  readonly newest: number;
  readonly contents: ReadonlyMap<number, number>;
}

/** What may be found after a crash at this position of the log. */
export function allowedAt(recorded: Recorded, position: number): Allowed {
  let promised: Promised | null = null;
  for (const each of recorded.promised) {
    if (each.position > position) break;
    promised = each;
  }
  // Whatever of a command did no I/O by then left no trace; the command that issued the last entry may be half done.
  const last = recorded.commands.find(({ end }) => end >= position);
  return {
    oldest: promised?.version ?? 0,
    newest: last?.version ?? recorded.model.version,
    contents: promised?.contents ?? new Map(),
  };
}

/** Null if the tree is allowed, or what is wrong with it. */
export function judge(recorded: Recorded, allowed: Allowed, files: readonly RecoveredFile[]): string | null {
  const tree = treeText(files);
  const { versions } = recorded.model;
  let complaint: string | null = null;
  let previous: Version | null = null;
  for (let v = allowed.oldest; v <= allowed.newest; v++) {
    const version = versions[v];
    if (version.tree !== tree) continue;
    if (!recorded.exact && previous !== null && sameFiles(previous, version)) continue;
    previous = version;
    complaint = judgeContents(recorded, allowed, v, files);
    if (complaint === null) return null;
  }
  if (complaint !== null) return complaint;
  const elsewhere = versions.findIndex((version) => version.tree === tree);
  const why =
    elsewhere < 0
      ? 'no version looked like this'
      : `that is version ${elsewhere}: ${elsewhere < allowed.oldest ? 'what was synced is lost' : 'from the future'}`;
  return `versions ${allowed.oldest} to ${allowed.newest} are allowed; ${why}\nfound:\n${indent(tree)}\nversion ${allowed.oldest}:\n${indent(versions[allowed.oldest].tree)}\nversion ${allowed.newest}:\n${indent(versions[allowed.newest].tree)}`;
}

/** The same inodes under the same names: a newer one of such versions allows less, never more. */
function sameFiles(a: Version, b: Version): boolean {
  for (const [path, { id }] of a.files) if (b.files.get(path)?.id !== id) return false;
  return true;
}

function judgeContents(
  recorded: Recorded,
  allowed: Allowed,
  v: number,
  files: readonly RecoveredFile[],
): string | null {
  const version = recorded.model.versions[v];
  for (const { path, content } of files) {
    const expected = version.files.get(path);
    if (expected === undefined || content === null) continue;
    const same = Buffer.compare(content, expected.content) === 0;
    if (same && (recorded.exact || !((allowed.contents.get(expected.id) ?? 0) > v))) continue;
    if (recorded.exact) return `of version ${v}: ${path} has other bytes, although they went through the log`;
    const oldest = Math.max(v, allowed.contents.get(expected.id) ?? 0);
    const complaint = judgeBytes(recorded, expected.id, oldest, allowed.newest, path, content);
    if (complaint !== null) return `of version ${v}: ${complaint}`;
  }
  return null;
}

/** Each byte has a value of some version from `oldest` to `newest`; behind the end of a shorter version it was zero. */
function judgeBytes(
  recorded: Recorded,
  id: number,
  oldest: number,
  newest: number,
  path: string,
  content: Uint8Array,
): string | null {
  const history = recorded.model.contents.get(id) ?? [];
  let first = 0;
  while (first + 1 < history.length && history[first + 1].version <= oldest) first++;
  const candidates = history.slice(first).filter(({ version }, i) => i === 0 || version <= newest);
  const undefinedRanges = recorded.model.undefined.get(id) ?? [];
  for (let at = 0; at < content.length; at++) {
    const byte = content[at];
    if (undefinedRanges.some(({ from, to }) => at >= from && at < to)) continue;
    if (candidates.some((candidate) => byteOf(candidate.content, at, recorded.blockSize) === byte)) continue;
    const known = history.findIndex((entry) => (entry.content[at] ?? 0) === byte);
    const origin = known >= 0 ? `version ${history[known].version} had it` : 'it was never written there';
    return `${path} byte ${at} is ${byte}, which no version from ${oldest} to ${newest} allows: ${origin}`;
  }
  return null;
}

/**
 * What a version says of a byte: behind its end nothing, but for zeroes in its last block, which a cut writes at once
 * when it has committed. Whole blocks behind the end belong to nobody, and nobody may touch them before that.
 */
function byteOf(content: Uint8Array, at: number, blockSize: number): number | undefined {
  return at < content.length ? content[at] : at < Math.ceil(content.length / blockSize) * blockSize ? 0 : undefined;
}

function indent(text: string): string {
  return text === '' ? '  (nothing)' : text.replace(/^/gm, '  ');
}
