/**
 * Images that the kernel's own ext4 left dirty: made by mke2fs, worked on through a loop device, stopped dead with
 * EXT4_IOC_SHUTDOWN, and copied before anything was checkpointed. What a disk holds after a power cut. Needs root.
 */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { makeImageFile, run } from './mke2fs.js';

export interface DirtyOptions {
  readonly sizeMiB?: number;
  readonly mkfs?: readonly string[];
  readonly mountOptions?: string;
  readonly seed?: number;
  readonly operations?: number;
  /** 1 flushes the log before the stop, 2 does not. */
  readonly shutdownMode?: 1 | 2;
}

/** Why kernel-dirty images cannot be made here; null if they can. */
export function noKernelDirty(): string | null {
  if (process.getuid?.() !== 0) return 'root is needed to mount with the kernel';
  if (spawnSync('losetup', ['-f'], { stdio: 'ignore' }).status !== 0) return 'there is no loop device';
  if (spawnSync('perl', ['-e', '1'], { stdio: 'ignore' }).status !== 0) return 'perl is needed for an ioctl';
  return null;
}

/** Writes a dirty image to `path`; `scratch` is a directory to work in. */
export function makeKernelDirty(path: string, scratch: string, options: DirtyOptions = {}): void {
  const { sizeMiB = 64, mkfs = [], mountOptions = '', seed = 1, operations = 300, shutdownMode = 2 } = options;
  useOnKernel(scratch, { sizeMiB, mkfs, mountOptions }, (mountPoint, backing) => {
    const held = new Workload(mountPoint, seed);
    try {
      held.run(operations);
      // EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32)
      const perl = 'sysopen(D, $ARGV[0], 0) or die; ioctl(D, 0x8004587d, pack("L", $ARGV[1])) or die "shutdown: $!"';
      must('perl', ['-e', perl, mountPoint, String(shutdownMode)]);
      copyFileSync(backing, path);
    } finally {
      held.close();
    }
  });
}

/** Makes a filesystem, mounts it with the kernel's ext4, runs `use`, and takes everything away. */
export function useOnKernel(
  scratch: string,
  options: { readonly sizeMiB: number; readonly mkfs: readonly string[]; readonly mountOptions: string },
  use: (mountPoint: string, backing: string) => void,
): void {
  const backing = join(scratch, 'backing');
  const mountPoint = join(scratch, 'mount');
  makeImageFile(backing, options.sizeMiB, options.mkfs);
  mkdirSync(mountPoint, { recursive: true });
  const loop = must('losetup', ['-f', '--show', backing]).trim();
  try {
    // -i: no helper of that name.
    must('mount', ['-i', '-t', 'ext4', '-o', options.mountOptions || 'defaults', loop, mountPoint]);
    try {
      use(mountPoint, backing);
    } finally {
      run('umount', [mountPoint]);
    }
  } finally {
    run('losetup', ['-d', loop]);
    rmSync(backing);
  }
}

function must(command: string, args: readonly string[]): string {
  const { code, output } = run(command, args);
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: exit ${code}: ${output}`);
  return output;
}

/** A seeded mix of what fills a log: names, sizes, frees (which revoke), long symlinks, many small directories. */
class Workload {
  private state: number;
  private readonly files: string[] = [];
  private readonly directories: string[];
  private readonly held: number[] = [];
  private made = 0;

  constructor(root: string, seed: number) {
    this.directories = [root];
    this.state = seed;
  }

  run(operations: number): void {
    for (let i = 0; i < operations; i++) {
      try {
        this.step();
      } catch (error) {
        // A random step may be impossible (no space, a name gone): the next one goes on.
        if (!(error instanceof Error && 'code' in error)) throw error;
      }
    }
  }

  close(): void {
    for (const fd of this.held) closeSync(fd);
  }

  private step(): void {
    const { files, directories } = this;
    const kind = this.below(100);
    if (kind < 35 || files.length < 3) {
      const path = this.newPath();
      writeFileSync(path, Buffer.alloc(this.pick([0, 1, 900, 5000, 70000, 300000]), this.made));
      files.push(path);
    } else if (kind < 45) {
      this.onFile((fd) => writeSync(fd, Buffer.alloc(5000, this.made), 0, 5000, this.pick([0, 4096, 1 << 20])));
    } else if (kind < 52) {
      truncateSync(this.pick(files), this.pick([0, 1, 4095, 50000, 1 << 21]));
    } else if (kind < 62) {
      rmSync(files.splice(this.below(files.length), 1)[0]);
    } else if (kind < 68) {
      const path = this.newPath();
      mkdirSync(path);
      directories.push(path);
      for (let i = 0; i < this.pick([0, 3, 80]); i++) writeFileSync(join(path, `${i}-${'n'.repeat(60)}`), '');
    } else if (kind < 73 && directories.length > 2) {
      const gone = directories.splice(1 + this.below(directories.length - 1), 1)[0];
      rmSync(gone, { recursive: true });
      this.forgetBelow(gone);
    } else if (kind < 79) {
      symlinkSync('x'.repeat(this.pick([5, 59, 60, 900])), this.newPath());
    } else if (kind < 83) {
      const path = this.newPath();
      linkSync(this.pick(files), path);
      files.push(path);
    } else if (kind < 88) {
      const from = this.below(files.length);
      const to = this.newPath();
      renameSync(files[from], to);
      files[from] = to;
    } else if (kind < 91) {
      // Deleted and still open: an orphan.
      const [path] = files.splice(this.below(files.length), 1);
      this.held.push(openSync(path, 'r+'));
      rmSync(path);
    } else {
      this.onFile(() => {});
    }
  }

  private onFile(change: (fd: number) => void): void {
    const fd = openSync(this.pick(this.files), 'r+');
    try {
      change(fd);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }

  private forgetBelow(directory: string): void {
    const below = (path: string) => path.startsWith(`${directory}/`);
    for (const list of [this.files, this.directories]) list.splice(0, list.length, ...list.filter((p) => !below(p)));
  }

  private newPath(): string {
    this.made++;
    return join(this.pick(this.directories), `${'f'.repeat(this.pick([1, 8, 100]))}${this.made}`);
  }

  private pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)];
  }

  private below(limit: number): number {
    this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.state / 0x1_0000_0000) * limit);
  }
}
