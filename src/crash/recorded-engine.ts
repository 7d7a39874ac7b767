/** Notes in a history what the user of a filesystem asks for: the names that a report shows beside the writes. */
import type { Filesystem } from '../ext4/filesystem.js';
import { withStandIns } from '../ext4/stand-in.js';
import type { RecordingDevice } from './recording-device.js';

const ROOT = 2;
const decoder = new TextDecoder();

/** The engine, with a mark in the device's log for each operation that changes something or makes it last. */
export function recordOperations(fs: Filesystem, device: RecordingDevice): Filesystem {
  const paths = new Map<number, string>([[ROOT, '']]);
  const pathOf = (ino: number) => paths.get(ino) ?? `inode ${ino}`;
  const under = (parent: number, name: Uint8Array) => {
    const directory = pathOf(parent);
    return directory === '' ? decoder.decode(name) : `${directory}/${decoder.decode(name)}`;
  };
  const made = (operation: string, parent: number, name: Uint8Array, make: () => number) => {
    const path = under(parent, name);
    device.mark(`${operation} ${path}`);
    const ino = make();
    paths.set(ino, path);
    return ino;
  };
  /** What stands in for a method; the rest of the engine is used as it is. */
  const recorded: Partial<Filesystem> = {
    lookup(parent, name) {
      const ino = fs.lookup(parent, name);
      if (ino !== 0) paths.set(ino, under(parent, name));
      return ino;
    },
    create: (parent, name, mode, cred) => made('create', parent, name, () => fs.create(parent, name, mode, cred)),
    mkdir: (parent, name, mode, cred) => made('mkdir', parent, name, () => fs.mkdir(parent, name, mode, cred)),
    mknod: (parent, name, mode, rdev, cred) =>
      made('mknod', parent, name, () => fs.mknod(parent, name, mode, rdev, cred)),
    symlink: (parent, name, target, cred) =>
      made('symlink', parent, name, () => fs.symlink(parent, name, target, cred)),
    link(ino, parent, name) {
      device.mark(`link ${pathOf(ino)} ${under(parent, name)}`);
      fs.link(ino, parent, name);
    },
    unlink(parent, name) {
      device.mark(`unlink ${under(parent, name)}`);
      return fs.unlink(parent, name);
    },
    rmdir(parent, name) {
      device.mark(`rmdir ${under(parent, name)}`);
      return fs.rmdir(parent, name);
    },
    rename(parent, name, newParent, newName, flags, cred) {
      device.mark(`rename ${under(parent, name)} ${under(newParent, newName)}`);
      const ino = fs.lookup(parent, name);
      const result = fs.rename(parent, name, newParent, newName, flags, cred);
      if (ino !== 0) paths.set(ino, under(newParent, newName));
      return result;
    },
    setattr(ino, changes) {
      if (changes.size !== undefined) device.mark(`truncate ${pathOf(ino)} to ${changes.size}`);
      fs.setattr(ino, changes);
    },
    setxattr(ino, name, value, flags) {
      device.mark(`setxattr ${pathOf(ino)} ${decoder.decode(name)}`);
      fs.setxattr(ino, name, value, flags);
    },
    fallocate(ino, mode, offsetBytes, lengthBytes) {
      device.mark(`fallocate ${pathOf(ino)} ${offsetBytes}+${lengthBytes}`);
      fs.fallocate(ino, mode, offsetBytes, lengthBytes);
    },
    iomapIoend(ino, posBytes, writtenBytes, addrBytes, flags, error) {
      device.mark(`write ${pathOf(ino)} ${posBytes}+${writtenBytes}`);
      return fs.iomapIoend(ino, posBytes, writtenBytes, addrBytes, flags, error);
    },
    sync(ino, whenDone) {
      const what = ino === null ? 'syncfs' : `fsync ${pathOf(ino)}`;
      device.mark(what);
      fs.sync(ino, (error) => {
        device.mark(error === null ? `${what}: done` : `${what}: ${error.message}`, { promise: error === null });
        whenDone(error);
      });
    },
  };
  return withStandIns(fs, recorded);
}
