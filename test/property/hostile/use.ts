/** Writes to a damaged filesystem: where the damage is, where it is not, each kind of operation. */
import {
  EXT4_EXTENTS_FL,
  EXT4_JOURNAL_DATA_FL,
  EXT4_NODUMP_FL,
  S_IFDIR,
  S_IFREG,
} from '../../../src/ext4/format/inode.js';
import { OP_WRITE, TYPE_HOLE } from '../../../src/ext4/iomap.js';
import { Misbehaviour, type Session } from './session.js';
import type { Met } from './walk.js';

const CRED = { uid: 0, gid: 0 };
const CALLER = { uid: 0 };
const ROOT = 2;
const MAX_DIRECTORIES = 5;
/** Operations on what is there already, beside those in the directories. */
const OPERATIONS = 6;
const RENAME_EXCHANGE = 2;
const FALLOCATE_MODES = [0, 1, 3, 0x10, 0x11, 0x08, 0x20];
const encode = (text: string) => new TextEncoder().encode(text);
const FRESH = encode('fresh');
const LONG = encode(`long-${'y'.repeat(220)}`);
const MOVED = encode('moved');
const FRESH_DIRECTORY = encode('fresh-directory');

/** Choices that follow from a seed. */
class Chooser {
  private state: number;

  constructor(seed: number) {
    this.state = seed | 1;
  }

  below(limit: number): number {
    this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.state / 0x1_0000_0000) * limit);
  }

  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)];
  }
}

/** `damaged`: inodes that are to be used whatever else is. */
export function use(session: Session, met: readonly Met[], damaged: readonly number[], seed: number): void {
  const choose = new Chooser(seed);
  const directories = new Set([ROOT]);
  for (const { ino, type, parent } of met) {
    if (directories.size >= MAX_DIRECTORIES) break;
    if (damaged.includes(ino)) directories.add(type === S_IFDIR ? ino : parent);
  }
  for (const { ino, type } of met) {
    if (type === S_IFDIR && directories.size < MAX_DIRECTORIES && choose.below(3) === 0) directories.add(ino);
  }
  for (const directory of directories) inDirectory(session, directory, choose);
  const favourites = met.filter(({ ino }) => damaged.includes(ino));
  for (const each of favourites.slice(0, 3)) changeOne(session, each, met, choose);
  for (let i = 0; i < OPERATIONS && met.length > 0; i++) {
    const each = favourites.length > 0 && choose.below(2) === 0 ? choose.of(favourites) : choose.of(met);
    changeOne(session, each, met, choose);
  }
  // What no name leads to any more can still be held open.
  for (const ino of damaged) if (ino > 10 && choose.below(2) === 0) changeData(session, ino, choose);
}

/** In each directory: a file with a long name, content and attributes, a directory, and half of it taken back. */
function inDirectory(session: Session, directory: number, choose: Chooser): void {
  const { fs } = session;
  const name = choose.below(2) === 0 ? FRESH : LONG;
  const ino = session.attempt(() => fs.create(directory, name, 0o100644, CRED));
  if (ino !== undefined) {
    write(session, ino, 0, 1500);
    session.attempt(() => fs.setxattr(ino, encode('user.x'), new Uint8Array(choose.of([4, 60, 500])), 0));
  }
  const made = session.attempt(() => fs.mkdir(directory, FRESH_DIRECTORY, 0o40755, CRED));
  if (choose.below(2) === 0) session.attempt(() => fs.symlink(directory, encode('fresh-link'), LONG, CRED));
  if (ino !== undefined && choose.below(2) === 0) session.attempt(() => fs.link(ino, directory, MOVED));
  if (choose.below(2) === 0) remove(session, directory, name);
  if (made !== undefined && choose.below(2) === 0) {
    const gone = session.attempt(() => fs.rmdir(directory, FRESH_DIRECTORY));
    if (gone !== undefined) session.attempt(() => fs.evict([gone]));
  }
}

function remove(session: Session, parent: number, name: Uint8Array): void {
  const { fs } = session;
  const gone = session.attempt(() => fs.unlink(parent, name));
  if (gone === undefined) return;
  if (session.attempt(() => fs.isUnlinked(gone)) === true) session.attempt(() => fs.evict([gone]));
}

function rename(session: Session, one: Met, toParent: number, toName: Uint8Array, flags: number): void {
  const { fs } = session;
  const done = session.attempt(() => fs.rename(one.parent, one.name, toParent, toName, flags, CRED));
  if (done !== undefined && done.replaced !== 0) session.attempt(() => fs.evict([done.replaced]));
}

function changeOne(session: Session, one: Met, met: readonly Met[], choose: Chooser): void {
  const { fs } = session;
  const { ino, parent, name, type } = one;
  const other = choose.of(met);
  switch (choose.below(type === S_IFREG ? 14 : 8)) {
    case 0:
      if (type !== S_IFDIR) remove(session, parent, name);
      else session.attempt(() => fs.evict([fs.rmdir(parent, name)]));
      return;
    case 1:
      rename(session, one, other.parent, choose.below(2) === 0 ? MOVED : LONG, 0);
      return;
    case 2:
      rename(session, one, other.parent, other.name, RENAME_EXCHANGE);
      return;
    case 3:
      rename(session, one, other.parent, other.name, 0);
      return;
    case 4:
      session.attempt(() => fs.setxattr(ino, encode('user.y'), new Uint8Array(choose.of([1, 30, 300])), 0));
      session.attempt(() => fs.removexattr(ino, encode('user.small')));
      session.attempt(() => fs.removexattr(ino, encode(choose.of(['user.in-a-block', 'user.large', 'user.larger']))));
      session.attempt(() => fs.setxattr(ino, encode('user.z'), new Uint8Array(choose.of([3000, 5])).fill(5), 0));
      return;
    case 5:
      session.attempt(() => fs.setattr(ino, { mode: 0o751, uid: choose.below(70_000) }));
      session.attempt(() => fs.touchAtime(ino));
      return;
    case 6:
      session.attempt(() => fs.link(ino, other.parent, MOVED));
      return;
    case 7:
      session.attempt(() =>
        fs.setFlags(
          ino,
          fs.getFlags(ino) ^ choose.of([0, EXT4_NODUMP_FL, EXT4_JOURNAL_DATA_FL, EXT4_EXTENTS_FL]),
          CALLER,
        ),
      );
      session.attempt(() => fs.setProject(ino, choose.below(3), CALLER));
      return;
    default:
      changeData(session, ino, choose);
  }
}

function changeData(session: Session, ino: number, choose: Chooser): void {
  const { fs } = session;
  const size = session.attempt(() => fs.stat(ino).size) ?? 0;
  const pos = choose.of([0, 1024, 5000, 20_000, size, Math.floor(size / 2), Math.floor(size / 1024) * 1024]);
  switch (choose.below(4)) {
    case 0:
      session.attempt(() => fs.setattr(ino, { size: choose.of([0, 1, pos, size + 3000, 1 << 21]) }));
      return;
    case 1:
      write(session, ino, pos, choose.of([10, 1024, 6000]));
      return;
    case 2:
      session.attempt(() => fs.fallocate(ino, choose.of(FALLOCATE_MODES), pos, choose.of([100, 1024, 12_000])));
      return;
    default:
      write(session, ino, size, choose.of([10, 4096]));
  }
}

/** What the data path does for a write. */
function write(session: Session, ino: number, posBytes: number, lengthBytes: number): void {
  const { fs } = session;
  if (session.attempt(() => fs.writesThroughEngine(ino, posBytes, lengthBytes)) === true) {
    session.attempt(() => fs.writeJournaled(ino, posBytes, new Uint8Array(lengthBytes).fill(0x55), OP_WRITE, 0));
    return;
  }
  const end = posBytes + lengthBytes;
  for (let pos = posBytes; pos < end; ) {
    const mapping = session.attempt(() => fs.iomapBegin(ino, pos, end - pos, OP_WRITE));
    if (mapping === undefined) return;
    const length = Math.min(end, mapping.offsetBytes + mapping.lengthBytes) - pos;
    if (mapping.type === TYPE_HOLE || !(length > 0)) {
      throw new Misbehaviour(`a write to inode ${ino} at ${pos} was mapped to type ${mapping.type}, ${length} bytes`);
    }
    session.mayHoldData(mapping);
    const addr = mapping.addrBytes + (pos - mapping.offsetBytes);
    fs.volume.device.write(addr, new Uint8Array(length).fill(0x55));
    const from = pos;
    if (session.attempt(() => fs.iomapIoend(ino, from, length, addr, 0, 0)) === undefined) return;
    pos += length;
  }
}

/** fsync of everything; what it says does not matter here, only that it says something. */
export async function sync(session: Session): Promise<void> {
  let answered = false;
  session.attempt(() =>
    session.fs.sync(null, (_error) => {
      answered = true;
    }),
  );
  await settled();
  if (!answered) throw new Misbehaviour('fsync is never answered');
}

/** Everything that was left for later has happened. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
