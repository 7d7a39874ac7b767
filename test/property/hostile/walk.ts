/** Looks at everything that a filesystem shows, in a bounded number of steps, whatever it claims of itself. */
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../../../src/ext4/format/inode.js';
import { TYPE_MAPPED, TYPE_UNWRITTEN } from '../../../src/ext4/iomap.js';
import { Misbehaviour, type Session } from './session.js';

/** A name that was met, and where. */
export interface Met {
  readonly ino: number;
  readonly parent: number;
  readonly name: Uint8Array;
  /** S_IFMT of its mode; 0 if it cannot be looked at. */
  readonly type: number;
}

const ROOT = 2;
const MAX_NAMES = 1000;
/** The longest names that a page of memory holds. */
const NAMES_AT_A_TIME = 14;
const MAX_MAPPINGS = 130;
const MAX_READ_BYTES = 4096;
const decoder = new TextDecoder();

/** Everything that can be reached, each name once. `everything` also reads attributes, targets and contents. */
export function walk(session: Session, everything: boolean): Met[] {
  const { fs } = session;
  const met: Met[] = [];
  const seen = new Set([ROOT]);
  const queue = [ROOT];
  const looked = new Set<number>();
  session.attempt(() => fs.statfs());
  for (let parent = queue.pop(); parent !== undefined && met.length < MAX_NAMES; parent = queue.pop()) {
    const directory = parent;
    for (const { name, ino } of list(session, directory)) {
      const stat = session.attempt(() => fs.stat(ino));
      const type = (stat?.mode ?? 0) & S_IFMT;
      met.push({ ino, parent: directory, name, type });
      if (type === S_IFDIR && !seen.has(ino)) {
        seen.add(ino);
        queue.push(ino);
      }
      if (!everything || stat === undefined || looked.has(ino)) continue;
      looked.add(ino);
      attributes(session, ino);
      if (type === S_IFLNK) session.attempt(() => fs.readlink(ino));
      if (type === S_IFREG) content(session, ino, stat.size);
    }
  }
  return met;
}

/**
 * The names of a directory, asked for as a small buffer does: some at a time, each time from where the last one ended. A
 * few of them are looked up as well.
 */
function list(session: Session, parent: number): { name: Uint8Array; ino: number }[] {
  const names: { name: Uint8Array; ino: number }[] = [];
  for (let cursor = 0, more = true; more && names.length < MAX_NAMES; ) {
    const start = cursor;
    let taken = 0;
    more = false;
    session.attempt(() =>
      session.fs.readdir(parent, start, (name, ino, _type, next) => {
        more = ++taken > NAMES_AT_A_TIME;
        if (more) return false;
        cursor = next;
        const text = decoder.decode(name);
        if (text !== '.' && text !== '..') names.push({ name: name.slice(), ino });
        return true;
      }),
    );
    if (more && cursor <= start)
      throw new Misbehaviour(`the listing of inode ${parent} does not move on from ${start}`);
  }
  for (const { name } of names.slice(0, 3)) session.attempt(() => session.fs.lookup(parent, name));
  return names;
}

function attributes(session: Session, ino: number): void {
  const names = session.attempt(() => session.fs.listxattr(ino));
  if (names === undefined) return;
  for (let at = 0, end = names.indexOf(0); end >= 0; at = end + 1, end = names.indexOf(0, at)) {
    session.attempt(() => session.fs.getxattr(ino, names.slice(at, end)));
  }
}

/** The start of each mapped range is read; a mapping must lead forward. */
function content(session: Session, ino: number, size: number): void {
  const { fs } = session;
  let pos = 0;
  for (let i = 0; i < MAX_MAPPINGS && pos < size; i++) {
    const mapping = session.attempt(() => fs.iomapBegin(ino, pos, size - pos, 0));
    if (mapping === undefined) break;
    const end = mapping.offsetBytes + mapping.lengthBytes;
    if (!(end > pos)) throw new Misbehaviour(`a mapping of inode ${ino} at ${pos} ends at ${end}`);
    if (mapping.type === TYPE_MAPPED || mapping.type === TYPE_UNWRITTEN) session.mayHoldData(mapping);
    if (mapping.type === TYPE_MAPPED && i < 4) {
      const into = new Uint8Array(Math.min(MAX_READ_BYTES, end - pos));
      fs.volume.device.read(mapping.addrBytes + (pos - mapping.offsetBytes), into);
    }
    pos = end;
  }
  session.attempt(() => fs.readData(ino, 0, new Uint8Array(MAX_READ_BYTES)));
  session.attempt(() => fs.seek(ino, 0, 'data'));
  session.attempt(() => fs.seek(ino, 0, 'hole'));
}
