/** The FUSE session alone, over a filesystem in memory: every operation through the kernel, from another process. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  renameSync,
  rmdirSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { codeOf } from '../support/code-of.js';
import { alignedBuffer, O_DIRECT } from '../support/direct-io.js';
import { run } from '../support/mke2fs.js';
import { isMounted, requireOrSkip, whyNoFuse, withMountpoint } from '../support/server.js';

const SERVER = join(dirname(fileURLToPath(import.meta.url)), '../support/fake-server.js');
const O_TMPFILE = 0o20200000;

interface Ended {
  readonly error: string | null;
  readonly evicted: number[];
  readonly syncs: number;
  readonly maps: number;
  readonly writesBeside: number;
}

async function until(what: string, condition: () => boolean, limitMs = 10_000): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${limitMs} ms`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

/** Mounts the fake filesystem, runs `use` with its root, unmounts; what the server said at its end. */
async function serve(
  options: object,
  use: (root: string, child: ChildProcess) => void | Promise<void>,
  sizeMiB = 64,
): Promise<Ended> {
  let ended: Ended | null = null;
  await withMountpoint(async (scratch, mountpoint) => {
    const data = join(scratch, 'data');
    writeFileSync(data, '');
    truncateSync(data, sizeMiB << 20);
    const child = spawn(process.execPath, [SERVER, data, mountpoint, JSON.stringify(options)]);
    let output = '';
    let errors = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
    });
    child.stderr.on('data', (chunk) => {
      errors += chunk;
    });
    try {
      await until('the mount', () => output.includes('ready') || child.exitCode !== null);
      assert.equal(child.exitCode, null, errors);
      await use(mountpoint, child);
      const { code, output: said } = run('umount', [mountpoint]);
      assert.equal(code, 0, said);
      await until('the end of the server', () => child.exitCode !== null || child.signalCode !== null);
      assert.equal(errors, '');
      assert.equal(child.exitCode, 0);
      ended = JSON.parse(output.trim().split('\n').pop() ?? '') as Ended;
    } finally {
      child.kill('SIGKILL');
      if (isMounted(mountpoint)) run('umount', ['-l', mountpoint]);
    }
  });
  assert.ok(ended);
  return ended;
}

const CONFIGURATIONS: { title: string; options: object }[] = [
  { title: 'write-back cache', options: {} },
  { title: 'write-through', options: { writeback: false } },
  { title: 'a device without a descriptor', options: { memory: true } },
  { title: '1 KiB blocks', options: { blockSize: 1024 } },
  { title: 'a log that is often busy', options: { throttleEvery: 3 } },
];

describe('the FUSE session', function () {
  this.timeout(60_000);

  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, process.getuid?.() === 0 ? whyNoFuse() : 'needs root');
  });

  it('answers rereads and overwrites of blocks it knows without the engine', async () => {
    const rounds = 500;
    const { maps, writesBeside } = await serve({}, (root) => {
      const path = join(root, 'f');
      writeFileSync(path, randomBytes(64 << 10));
      const fd = openSync(path, constants.O_RDWR | O_DIRECT);
      const block = alignedBuffer(4096);
      const back = alignedBuffer(4096);
      for (let i = 0; i < rounds; i++) {
        const at = (i % 16) * 4096;
        block.fill(i);
        assert.equal(writeSync(fd, block, 0, 4096, at), 4096);
        assert.equal(readSync(fd, back, 0, 4096, at), 4096);
        assert.ok(back.equals(block), `round ${i}`);
      }
      closeSync(fd);
    });
    assert.ok(maps < 100, `${maps} mappings for ${2 * rounds} requests`);
    assert.ok(writesBeside > rounds - 50, `${writesBeside} of ${rounds} writes`);
  });

  for (const { title, options } of CONFIGURATIONS) {
    describe(title, () => {
      it('keeps names', () =>
        serve(options, (root) => {
          mkdirSync(join(root, 'd'));
          writeFileSync(join(root, 'd', 'f'), 'hello');
          assert.equal(readFileSync(join(root, 'd', 'f'), 'utf8'), 'hello');
          linkSync(join(root, 'd', 'f'), join(root, 'g'));
          assert.equal(statSync(join(root, 'g')).nlink, 2);
          symlinkSync('d/f', join(root, 'l'));
          assert.equal(readlinkSync(join(root, 'l')), 'd/f');
          assert.equal(readFileSync(join(root, 'l'), 'utf8'), 'hello');
          assert.throws(() => rmdirSync(join(root, 'd')), { code: 'ENOTEMPTY' });
          assert.throws(() => mkdirSync(join(root, 'd')), { code: 'EEXIST' });
          assert.throws(() => statSync(join(root, 'nothing')), { code: 'ENOENT' });
          assert.throws(() => statSync(join(root, 'n'.repeat(256))), { code: 'ENAMETOOLONG' });
          renameSync(join(root, 'd', 'f'), join(root, 'h'));
          rmdirSync(join(root, 'd'));
          assert.deepEqual(readdirSync(root).sort(), ['g', 'h', 'l']);
          assert.equal(statSync(root).ino, 2);
        }));

      it('lists large directories', () =>
        serve(options, (root) => {
          const names = Array.from({ length: 2000 }, (_, i) => `file-${i}-${'x'.repeat(i % 40)}`);
          for (const name of names) closeSync(openSync(join(root, name), 'wx'));
          assert.deepEqual(readdirSync(root).sort(), [...names].sort());
          const types = readdirSync(root, { withFileTypes: true });
          assert.ok(types.every((entry) => entry.isFile()));
        }));

      it('keeps data of every size and alignment', () =>
        serve(options, (root) => {
          const path = join(root, 'f');
          const expected = Buffer.alloc(3 << 20);
          const fd = openSync(path, 'w+');
          let size = 0;
          for (const [offset, length] of [
            [0, 1],
            [4095, 2],
            [100, 70_000],
            [1_000_000, 1 << 20],
            [3, 8192],
            [2_500_000, 333_333],
            [65_536, 65_536],
            [131_072, 262_144],
          ]) {
            const piece = randomBytes(length);
            piece.copy(expected, offset);
            writeSync(fd, piece, 0, length, offset);
            size = Math.max(size, offset + length);
            if (offset % 3 === 0) fsyncSync(fd);
          }
          closeSync(fd);
          run('sh', ['-c', 'echo 3 > /proc/sys/vm/drop_caches']);
          assert.equal(statSync(path).size, size);
          assert.ok(readFileSync(path).equals(expected.subarray(0, size)));
          truncateSync(path, 1000);
          truncateSync(path, 5000);
          const after = Buffer.alloc(5000);
          expected.copy(after, 0, 0, 1000);
          assert.ok(readFileSync(path).equals(after));
        }));

      it('does direct I/O', () =>
        serve(options, (root) => {
          const fd = openSync(join(root, 'f'), constants.O_RDWR | constants.O_CREAT | O_DIRECT);
          const aligned = alignedBuffer(2 << 20);
          randomBytes(2 << 20).copy(aligned);
          const before = fstatSync(fd).mtimeMs;
          spawnSync('sleep', ['0.05']);
          assert.equal(writeSync(fd, aligned, 0, aligned.length, 4096), aligned.length);
          assert.ok(fstatSync(fd).mtimeMs > before, 'mtime');
          const back = Buffer.alloc(aligned.length);
          assert.equal(readSync(fd, back, 0, back.length, 4096), back.length);
          assert.ok(back.equals(aligned));
          closeSync(fd);
        }));
    });
  }

  it('keeps attributes and times', () =>
    serve({}, (root) => {
      const path = join(root, 'f');
      writeFileSync(path, 'x', { mode: 0o640 });
      assert.equal(statSync(path).mode & 0o7777, 0o640);
      run('chmod', ['4755', path]);
      run('chown', ['1000:1001', path]);
      const owned = statSync(path);
      assert.deepEqual([owned.mode & 0o7777, owned.uid, owned.gid], [0o755, 1000, 1001], 'chown drops set-uid');
      run('touch', ['-a', '-d', '@-1000000', path]);
      run('touch', ['-m', '-d', '@4000000000', path]);
      assert.equal(statSync(path).atimeMs, -1_000_000_000);
      assert.equal(statSync(path).mtimeMs, 4_000_000_000_000);
      assert.ok(statSync(path).birthtimeMs > 1_500_000_000_000);
      run('mknod', [join(root, 'dev'), 'c', '259', '70000']);
      assert.equal(run('stat', ['-c', '%t %T', join(root, 'dev')]).output.trim(), '103 11170');
    }));

  it('ends inodes when their last user lets go', async () => {
    const { evicted } = await serve({}, async (root) => {
      const fd = openSync(join(root, 'open'), 'w+');
      const { ino } = fstatSync(fd);
      unlinkSync(join(root, 'open'));
      writeSync(fd, 'still here');
      const back = Buffer.alloc(10);
      readSync(fd, back, 0, 10, 0);
      assert.equal(back.toString(), 'still here');
      closeSync(fd);
      writeFileSync(join(root, 'a'), 'a');
      writeFileSync(join(root, 'b'), 'b');
      renameSync(join(root, 'a'), join(root, 'b'));
      const tmp = openSync(root, O_TMPFILE | constants.O_RDWR, 0o600);
      writeSync(tmp, 'unnamed');
      closeSync(tmp);
      const named = openSync(root, O_TMPFILE | constants.O_RDWR, 0o600);
      writeSync(named, 'named later');
      run('python3', [
        '-c',
        `import os; os.link("/proc/${process.pid}/fd/${named}", "${join(root, 'named')}", src_dir_fd=os.open("/", 0), follow_symlinks=True)`,
      ]);
      closeSync(named);
      assert.equal(readFileSync(join(root, 'named'), 'utf8'), 'named later');
      assert.ok(ino > 2);
    });
    assert.equal(evicted.length, 3);
    assert.equal(new Set(evicted).size, 3);
  });

  it('frees what is still open when the mount goes away', async () => {
    const { evicted } = await serve({}, (root) => {
      writeFileSync(join(root, 'f'), 'x');
      const fd = openSync(join(root, 'f'), 'r');
      unlinkSync(join(root, 'f'));
      run('umount', ['-l', root]);
      closeSync(fd);
      // The lazily unmounted directory is a plain one now; give umount something to unmount.
      run('mount', ['-t', 'tmpfs', 'none', root]);
    });
    assert.equal(evicted.length, 1);
  });

  it('keeps extended attributes', () =>
    serve({}, (root) => {
      const path = join(root, 'f');
      writeFileSync(path, '');
      const py = (code: string) =>
        run('python3', ['-c', `import os\np=${JSON.stringify(path)}\n${code}`]).output.trim();
      assert.equal(
        py('os.setxattr(p,"user.a",b"1"); print(os.getxattr(p,"user.a"), os.listxattr(p))'),
        "b'1' ['user.a']",
      );
      assert.match(py('os.setxattr(p,"user.a",b"2",os.XATTR_CREATE)'), /File exists/);
      assert.match(py('os.getxattr(p,"user.b")'), /No data/);
      assert.equal(py('os.setxattr(p,"user.big",b"x"*60000); print(len(os.getxattr(p,"user.big")))'), '60000');
      assert.equal(py('os.removexattr(p,"user.a"); os.removexattr(p,"user.big"); print(os.listxattr(p))'), '[]');
      assert.match(
        py(
          'os.setxattr(p,"system.posix_acl_access",bytes.fromhex("0200000001000600ffffffff02000600e803000004000400ffffffff10000600ffffffff20000400ffffffff"))',
        ),
        /not supported/,
      );
    }));

  it('inherits and keeps access control lists', () =>
    serve({ acl: true }, (root) => {
      const directory = join(root, 'd');
      mkdirSync(directory, 0o755);
      const set = `
import os, struct
def acl(*entries): return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)
NONE = 0xffffffff
a = acl((1, 7, NONE), (2, 6, 1000), (4, 5, NONE), (16, 7, NONE), (32, 0, NONE))
os.setxattr("${directory}", "system.posix_acl_default", a)
os.umask(0o077)
open("${directory}/f", "w").close()
os.mkdir("${directory}/sub")
print(oct(os.stat("${directory}/f").st_mode & 0o777), os.listxattr("${directory}/f"), len(os.listxattr("${directory}/sub")))
os.chmod("${directory}/f", 0o640)
m = os.getxattr("${directory}/f", "system.posix_acl_access")
print([struct.unpack_from("<HHI", m, 4 + 8*i)[:2] for i in range(5)])
`;
      const lines = run('python3', ['-c', set]).output.trim().split('\n');
      assert.deepEqual(lines, ["0o660 ['system.posix_acl_access'] 2", '[(1, 6), (2, 6), (4, 5), (16, 4), (32, 0)]']);
    }));

  it('finds holes, and data that only the page cache has', () =>
    serve({}, (root) => {
      const path = join(root, 'f');
      const code = `
import os
fd = os.open(${JSON.stringify(path)}, os.O_RDWR | os.O_CREAT)
os.pwrite(fd, b"x" * 4096, 1 << 20)
os.ftruncate(fd, 4 << 20)
print(os.lseek(fd, 0, os.SEEK_DATA), os.lseek(fd, 1 << 20, os.SEEK_HOLE))
os.posix_fallocate(fd, 0, 8192)
print(os.fstat(fd).st_size, os.lseek(fd, 0, os.SEEK_HOLE))
`;
      assert.equal(run('python3', ['-c', code]).output.trim(), '1048576 1052672\n4194304 0');
      assert.equal(run('fallocate', ['-p', '-o', String(1 << 20), '-l', '4096', path]).code, 0);
      assert.ok(readFileSync(path).every((byte) => byte === 0));
    }));

  it('says how full it is, and ENOSPC when it is', () =>
    serve({}, (root) => {
      const { bsize, blocks, bfree } = statfsSync(root);
      assert.deepEqual([bsize, blocks], [4096, 16384]);
      assert.ok(bfree > 0);
      const fd = openSync(join(root, 'f'), 'w');
      assert.throws(
        () => {
          for (let i = 0; i < 128; i++) writeSync(fd, Buffer.alloc(1 << 20));
          fsyncSync(fd);
        },
        { code: 'ENOSPC' },
      );
      // A write was told; the kernel itself tells again when the file is closed.
      assert.ok(['done', 'ENOSPC'].includes(codeOf(() => closeSync(fd))));
    }));

  it('syncs when asked', async () => {
    const { syncs } = await serve({}, (root) => {
      const fd = openSync(join(root, 'f'), 'w');
      writeSync(fd, 'x');
      fsyncSync(fd);
      closeSync(fd);
      run('python3', ['-c', `import os; os.fsync(os.open("${root}", os.O_RDONLY))`]);
    });
    assert.equal(syncs, 2);
  });

  it('lets go of the files of a program that starts another', () =>
    serve({}, async (root) => {
      // execve closes them while it keeps everyone from looking at the process: the server too.
      const script = `
        const { closeSync, openSync } = require('node:fs');
        const { spawnSync } = require('node:child_process');
        for (let round = 0; round < 150; round++) {
          const files = Array.from({ length: round % 7 }, (_, file) => openSync(process.argv[1] + file, 'w'));
          spawnSync('/bin/true');
          files.forEach((fd) => closeSync(fd));
        }`;
      const program = spawn(process.execPath, ['-e', script, join(root, 'f')], { stdio: 'ignore' });
      assert.equal(await new Promise((ended) => program.once('close', ended)), 0);
    }));

  it('has two descriptors for each of sixteen large writes at most, however often memory was short', () =>
    serve({}, async (root, child) => {
      const open = `/proc/${child.pid}/fd`;
      const linkOf = (fd: string) => {
        try {
          return readlinkSync(join(open, fd));
        } catch {
          return '';
        }
      };
      const pipes = () => readdirSync(open).filter((fd) => linkOf(fd).startsWith('pipe:')).length;
      let relieved = 0;
      child.stdout?.on('data', (chunk) => {
        relieved += String(chunk).split('relieved').length - 1;
      });
      const before = pipes();
      const data = randomBytes(16 << 20);
      const file = openSync(join(root, 'file'), 'w+');
      try {
        for (let round = 1; round <= 40; round++) {
          writeSync(file, data, 0, data.length, 0);
          fsyncSync(file);
          child.kill('SIGUSR2');
          await until('relief', () => relieved === round);
          const more = pipes() - before;
          assert.ok(more <= 32, `${more} descriptors after ${round} times`);
        }
      } finally {
        closeSync(file);
      }
      assert.ok(pipes() > before, 'no data waited in a pipe');
      assert.ok(readFileSync(join(root, 'file')).equals(data));
    }));

  it('survives many at once', () =>
    serve({ throttleEvery: 5 }, async (root) => {
      const script = `
        d="${root}/$1"; mkdir "$d"; i=0
        while [ $i -lt 60 ]; do
          head -c $((i * 7919)) /dev/zero > "$d/$i"; mv "$d/$i" "$d/r$i"; [ $((i % 3)) = 0 ] && rm "$d/r$i"; i=$((i + 1))
        done; ls "$d" | wc -l`;
      const children = [1, 2, 3, 4].map((k) => spawn('sh', ['-c', script, 'sh', String(k)]));
      const outputs = await Promise.all(
        children.map(
          (child) =>
            new Promise<string>((done) => {
              let text = '';
              child.stdout.on('data', (chunk) => {
                text += chunk;
              });
              child.on('close', () => done(text.trim()));
            }),
        ),
      );
      assert.deepEqual(outputs, ['40', '40', '40', '40']);
      rmSync(join(root, '1'), { recursive: true });
      assert.ok(!existsSync(join(root, '1')));
    }));
});
