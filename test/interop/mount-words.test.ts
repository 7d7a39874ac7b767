/** Mount options that change what a mount does, each shown by what it does. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { codeOf } from '../support/code-of.js';
import { fsckFile, makeImageFile, run } from '../support/mke2fs.js';
import { EXT4D, isMounted, Mount, requireOrSkip, whyNoFuse, withMount, withMountpoint } from '../support/server.js';

/** A mount of a fresh image with these options. */
function mounted(
  options: string,
  use: (at: (path: string) => string, image: string) => void | Promise<void>,
  mkfs: string[] = [],
): Promise<void> {
  return withMountpoint(async (scratch, mountpoint) => {
    const image = join(scratch, 'image');
    makeImageFile(image, 32, mkfs);
    await withMount(image, mountpoint, options.replaceAll('@', scratch), () =>
      use((path) => join(mountpoint, path), image),
    );
    const { code, output } = fsckFile(image);
    assert.equal(code, 0, output);
  });
}

describe('the mount option', function () {
  this.timeout(60_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });
  const asRoot = process.getuid?.() === 0;

  it('grpid: new files get the group of their directory', function () {
    requireOrSkip(this, asRoot ? null : 'owners are for root');
    return mounted('grpid', (at) => {
      mkdirSync(at('d'));
      chownSync(at('d'), 0, 777);
      writeFileSync(at('d/file'), '');
      mkdirSync(at('d/e'));
      assert.equal(statSync(at('d/file')).gid, 777);
      assert.equal(statSync(at('d/e')).gid, 777);
      assert.equal(statSync(at('d/e')).mode & 0o2000, 0);
    });
  });

  it('nogrpid wins over a superblock that asks for grpid', function () {
    requireOrSkip(this, asRoot ? null : 'owners are for root');
    return withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      run('tune2fs', ['-o', 'bsdgroups', image]);
      for (const [options, gid] of [
        ['', 777],
        ['nogrpid', 0],
      ] as const) {
        await withMount(image, mountpoint, options, () => {
          const directory = join(mountpoint, `d${gid}`);
          mkdirSync(directory);
          chownSync(directory, 0, 777);
          writeFileSync(join(directory, 'file'), '');
          assert.equal(statSync(join(directory, 'file')).gid, gid);
        });
      }
    });
  });

  it('minixdf: df counts metadata as part of the disk', async () => {
    let plain = 0;
    await mounted('', (at) => {
      plain = statfsSync(at('')).blocks;
    });
    await mounted('minixdf', (at) => {
      const { blocks } = statfsSync(at(''));
      assert.equal(blocks, (32 << 20) / 4096);
      assert.ok(blocks > plain);
    });
  });

  it('max_dir_size_kb: a directory does not grow beyond that', () =>
    mounted('max_dir_size_kb=16', (at) => {
      mkdirSync(at('d'));
      const codes = Array.from({ length: 400 }, (_, i) =>
        codeOf(() => writeFileSync(at(`d/${String(i).padStart(100, 'n')}`), '')),
      );
      assert.equal(codes[0], 'done');
      assert.equal(codes[399], 'ENOSPC');
      assert.ok(statSync(at('d')).size <= 16384);
    }));

  it('nouser_xattr: there are no user attributes, also where there were', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      const file = join(mountpoint, 'file');
      makeImageFile(image, 32);
      await withMount(image, mountpoint, '', () => {
        writeFileSync(file, '');
        assert.equal(run('setfattr', ['-n', 'user.before', '-v', 'y', file]).output, '');
      });
      await withMount(image, mountpoint, 'nouser_xattr', () => {
        assert.match(run('setfattr', ['-n', 'user.x', '-v', 'y', file]).output, /not supported/);
        assert.match(run('setfattr', ['-x', 'user.before', file]).output, /not supported/);
        if (asRoot) assert.equal(run('setfattr', ['-n', 'trusted.x', '-v', 'y', file]).output, '');
        assert.doesNotMatch(run('getfattr', ['-m', '-', file]).output, /user/);
      });
      await withMount(image, mountpoint, '', () => {
        assert.match(run('getfattr', ['-m', '-', file]).output, /^user\.before$/m);
      });
    }));

  it('auto_da_alloc: a file that takes the place of another while it is open is there after a crash, or the other one is', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      const at = (name: string) => join(mountpoint, name);
      // What the image holds once the rename is durable, and nothing else was done about the data.
      const afterCrash = async (options: string, afterMs: number) => {
        const mount = await Mount.start(image, mountpoint, options);
        try {
          writeFileSync(at('conf'), 'old content', { flush: true });
          const fd = openSync(at('conf.tmp'), 'w');
          writeSync(fd, 'new content');
          renameSync(at('conf.tmp'), at('conf'));
          await wait(afterMs);
          await mount.kill();
          // Of a dead connection: that it fails is what is expected.
          codeOf(() => closeSync(fd));
        } finally {
          mount.cleanUp();
        }
        let content = '';
        await withMount(image, mountpoint, '', () => {
          content = readFileSync(at('conf'), 'utf8');
        });
        return content;
      };
      assert.equal(await afterCrash('commit=1,auto_da_alloc', 2500), 'new content');
      const without = await afterCrash('commit=1,noauto_da_alloc', 2500);
      assert.equal(without, '', 'the test cannot tell: something else writes back');
      // The rename is durable when it is answered, and so is what was written back for it.
      assert.equal(await afterCrash('commit=600,dirsync', 0), 'new content');
    }));

  it('dirsync: a new name is in the image when it is answered', () =>
    mounted('dirsync,commit=600', async (at, image) => {
      mkdirSync(at('new'));
      const copy = `${image}-copy`;
      run('cp', [image, copy]);
      run(EXT4D, ['replay', copy]);
      assert.match(run('debugfs', ['-R', 'ls /', copy]).output, /new/);
    }));

  it('nouid32: owners have 16 bits, as read and as written', function () {
    requireOrSkip(this, asRoot ? null : 'owners are for root');
    return withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      const file = join(mountpoint, 'file');
      await withMount(image, mountpoint, '', () => {
        writeFileSync(file, '');
        chownSync(file, 70_000, 70_001);
      });
      await withMount(image, mountpoint, 'nouid32', () => {
        assert.deepEqual([statSync(file).uid, statSync(file).gid], [4464, 4465]);
        chownSync(file, 70_000, 1000);
        assert.deepEqual([statSync(file).uid, statSync(file).gid], [65_534, 1000]);
      });
    });
  });

  it('sb: reads by a copy of the superblock what has lost the first one, and writes nothing', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32, ['-b', '1024']);
      await withMount(image, mountpoint, '', () => writeFileSync(join(mountpoint, 'file'), 'content'));
      const bytes = readFileSync(image);
      bytes.fill(0, 1024, 4096);
      writeFileSync(image, bytes);
      const lost = run(EXT4D, ['mount', image, mountpoint]);
      assert.notEqual(lost.code, 0);
      const refused = run(EXT4D, ['mount', '-o', 'sb=8193,rw', image, mountpoint]);
      assert.match(refused.output, /e2fsck -b/);
      await withMount(image, mountpoint, 'sb=8193', () => {
        assert.equal(readFileSync(join(mountpoint, 'file'), 'utf8'), 'content');
        assert.equal(
          codeOf(() => writeFileSync(join(mountpoint, 'new'), '')),
          'EROFS',
        );
      });
      assert.ok(readFileSync(image).equals(bytes));
    }));

  it('allow_root: root may enter, other users may not', function () {
    requireOrSkip(this, asRoot ? null : 'entering as another user needs root');
    return mounted('allow_root', (at) => {
      writeFileSync(at('file'), 'content');
      chmodSync(at('file'), 0o644);
      const asNobody = run('setpriv', ['--reuid', '65534', '--clear-groups', 'cat', at('file')]);
      assert.match(asNobody.output, /Permission denied/);
      assert.equal(readFileSync(at('file'), 'utf8'), 'content');
    });
  });

  it('auto_unmount: the mount of a killed server goes away by itself', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      const mount = await Mount.start(image, mountpoint, 'auto_unmount');
      try {
        process.kill(mount.pid, 'SIGKILL');
        for (let i = 0; i < 200 && isMounted(mountpoint); i++) await wait(25);
        assert.ok(!isMounted(mountpoint));
      } finally {
        mount.cleanUp();
      }
    }));

  it('sync: what is written is in the image when it is answered', function () {
    requireOrSkip(this, asRoot ? null : 'fusermount3 decides about sync');
    return mounted('sync', (at, image) => {
      writeFileSync(at('file'), 'written and durable');
      assert.ok(readFileSync(image).includes('written and durable'));
      assert.match(run('findmnt', ['-no', 'OPTIONS', at('.')]).output, /sync/);
    });
  });

  it('whole seconds are kept where inodes have no room for more, and are shown so at once', () =>
    mounted(
      '',
      (at) => {
        writeFileSync(at('file'), 'x');
        assert.equal(statSync(at('file')).mtimeMs % 1000, 0);
        assert.equal(statSync(at('file')).atimeMs % 1000, 0);
      },
      ['-I', '128'],
    ));

  it('sync: what is written survives a crash, without an fsync', () =>
    mounted('sync,commit=600', async (at, image) => {
      writeFileSync(at('new'), 'written and never fsynced');
      const copy = `${image}-copy`;
      run('cp', [image, copy]);
      run(EXT4D, ['replay', copy]);
      assert.match(run('debugfs', ['-R', 'cat /new', copy]).output, /written and never fsynced/);
    }));

  it('abort: nothing can be changed', () =>
    mounted('abort', (at) => {
      assert.equal(
        codeOf(() => writeFileSync(at('file'), '')),
        'EROFS',
      );
      assert.ok(existsSync(at('lost+found')));
    }));

  it('lockfile: it is there while the image is mounted, and must not be there before', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      const lock = join(scratch, 'lock');
      makeImageFile(image, 32);
      const options = `lockfile=${lock}`;
      await withMount(image, mountpoint, options, () => assert.ok(existsSync(lock)));
      assert.ok(!existsSync(lock));
      writeFileSync(lock, '');
      const refused = run(EXT4D, ['mount', '-o', options, image, mountpoint]);
      assert.equal(refused.code, 32);
      assert.match(refused.output, /there already/);
    }));

  it('uid=, gid=: everything is shown as theirs, and what they make belongs to the owner of the directory', function () {
    requireOrSkip(this, asRoot ? null : 'owners are for root');
    return mounted('uid=1234,gid=567', (at, image) => {
      assert.equal(statSync(at('')).uid, 1234);
      mkdirSync(at('d'));
      writeFileSync(at('d/file'), 'x');
      assert.equal(statSync(at('d/file')).uid, 1234);
      assert.equal(statSync(at('d/file')).gid, 567);
      assert.equal(
        codeOf(() => chownSync(at('d/file'), 99, 567)),
        'EPERM',
      );
      assert.equal(run('sync', [at('d/file'), at('d')]).output, '');
      const copy = `${image}-copy`;
      run('cp', [image, copy]);
      run(EXT4D, ['replay', copy]);
      assert.match(run('debugfs', ['-R', 'stat /d/file', copy]).output, /User:\s+0\s+Group:\s+0/);
    });
  });

  it('uidmap=, gidmap=: ids are shifted both ways, and others are nobody', function () {
    requireOrSkip(this, asRoot ? null : 'owners are for root');
    return withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      const at = (path: string) => join(mountpoint, path);
      await withMount(image, mountpoint, '', () => {
        for (const uid of [0, 5, 5000]) {
          writeFileSync(at(`of${uid}`), '');
          chownSync(at(`of${uid}`), uid, uid);
        }
      });
      await withMount(
        image,
        mountpoint,
        'uidmap=0:100000:1000,gidmap=0:100000:1000,uidmap=2000:0:1,gidmap=2000:0:1',
        () => {
          assert.equal(statSync(at('of0')).uid, 100_000);
          assert.equal(statSync(at('of5')).gid, 100_005);
          assert.equal(statSync(at('of5000')).uid, 65_534);
          chownSync(at('of5'), 100_007, 100_008);
          assert.equal(
            codeOf(() => chownSync(at('of5'), 7, 7)),
            'EOVERFLOW',
          );
          writeFileSync(at('new'), '');
        },
      );
      await withMount(image, mountpoint, '', () => {
        assert.equal(statSync(at('of5')).uid, 7);
        assert.equal(statSync(at('of5')).gid, 8);
        assert.equal(statSync(at('new')).uid, 2000);
      });
    });
  });

  it('fakeroot: an ordinary user acts as root does', function () {
    requireOrSkip(this, asRoot ? null : 'needs root to become an ordinary user');
    return mounted('fakeroot,allow_other', (at) => {
      writeFileSync(at('secret'), 'secret', { mode: 0o600 });
      chmodSync(dirname(at('')), 0o755);
      const as = (...command: string[]) =>
        run('setpriv', ['--reuid=1234', '--regid=1234', '--clear-groups', ...command]);
      assert.equal(as('cat', at('secret')).output, 'secret');
      assert.equal(as('sh', '-c', `echo more > ${at('theirs')}`).output, '');
      assert.match(run('findmnt', ['-no', 'OPTIONS', at('')]).output, /nosuid,nodev/);
    });
  });

  it('overlay: what is written goes to a side file, is there at the next mount, and the image stays as it was', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 64);
      const at = (path: string) => join(mountpoint, path);
      await withMount(image, mountpoint, '', () => writeFileSync(at('below'), 'below'));
      const before = readFileSync(image);
      const options = `overlay=${join(scratch, 'side')}`;
      const large = Buffer.alloc(5_000_001, 'overlay ');
      await withMount(image, mountpoint, options, () => {
        assert.equal(readFileSync(at('below'), 'utf8'), 'below');
        writeFileSync(at('below'), 'changed');
        writeFileSync(at('large'), large);
      });
      assert.ok(readFileSync(image).equals(before), 'the image is untouched');
      assert.ok(statSync(join(scratch, 'side')).blocks * 512 < 24 << 20, 'the side file is sparse');
      const mount = await Mount.start(image, mountpoint, options);
      try {
        assert.equal(readFileSync(at('below'), 'utf8'), 'changed');
        assert.ok(readFileSync(at('large')).equals(large));
        writeFileSync(at('synced'), 'synced');
        assert.equal(run('sync', [at('synced'), at('')]).output, '');
        await mount.kill();
      } finally {
        mount.cleanUp();
      }
      await withMount(image, mountpoint, options, () => assert.equal(readFileSync(at('synced'), 'utf8'), 'synced'));
      assert.ok(readFileSync(image).equals(before), 'the image is still untouched');
      // The side file is clean, whatever the image was when it was first used.
      const dirty = join(scratch, 'dirty');
      makeImageFile(dirty, 64);
      const killed = await Mount.start(dirty, mountpoint);
      try {
        writeFileSync(at('logged'), 'logged', { flush: true });
        await killed.kill();
      } finally {
        killed.cleanUp();
      }
      const asItWas = readFileSync(dirty);
      const over = `overlay=${join(scratch, 'side2')}`;
      for (const name of ['first', 'second']) {
        assert.deepEqual(run(EXT4D, ['mount', '-o', over, dirty, mountpoint]), { code: 0, output: '' });
        writeFileSync(at(name), name);
        assert.equal(readFileSync(at('logged'), 'utf8'), 'logged');
        assert.deepEqual(run(EXT4D, ['umount', mountpoint]), { code: 0, output: '' });
      }
      assert.ok(readFileSync(dirty).equals(asItWas));
      // A file of someone else's, and the side file of an image of another size, stay as they are.
      const other = join(scratch, 'other');
      writeFileSync(other, 'not an overlay file');
      const shorter = join(scratch, 'shorter');
      makeImageFile(shorter, 32);
      for (const [below, side] of [
        [image, other],
        [shorter, join(scratch, 'side')],
      ]) {
        const contentBefore = readFileSync(side);
        const refused = run(EXT4D, ['mount', '-o', `overlay=${side}`, below, mountpoint]);
        assert.equal(refused.code, 32, refused.output);
        assert.match(refused.output, /is no overlay file, or belongs to another image; nothing was changed/);
        assert.ok(readFileSync(side).equals(contentBefore));
      }
      // Another image, as long, is not what the side file belongs to.
      makeImageFile(image, 64);
      const refused = run(EXT4D, ['mount', '-o', options, image, mountpoint]);
      assert.equal(refused.code, 32, refused.output);
      assert.match(refused.output, /belongs to another image/);
    }));

  for (const { table, script } of [
    { table: 'GPT', script: 'label: gpt\nsize=8MiB, name=boot\nsize=40MiB, name=root\n' },
    {
      table: 'MBR with logical partitions',
      script: 'label: dos\n1 : size=4MiB\n2 : size=60MiB, type=5\n5 : size=8MiB\n6 : size=40MiB\n',
    },
  ]) {
    it(`part=: a partition of a disk image, in a ${table}`, function () {
      requireOrSkip(this, existsSync('/sbin/sfdisk') ? null : 'sfdisk is missing (fdisk)');
      return withMountpoint(async (scratch, mountpoint) => {
        const disk = join(scratch, 'disk');
        writeFileSync(disk, '');
        truncateSync(disk, 80 << 20);
        const made = run('sh', ['-c', `printf '${script.replaceAll('\n', '\\n')}' | /sbin/sfdisk -q ${disk}`]);
        assert.equal(made.code, 0, made.output);
        const image = join(scratch, 'image');
        makeImageFile(image, 40);
        const number = table === 'GPT' ? 2 : 6;
        const { partitiontable } = JSON.parse(run('/sbin/sfdisk', ['-J', disk]).output);
        const { start } = partitiontable.partitions.find(({ node }: { node: string }) => node.endsWith(String(number)));
        run('dd', [`if=${image}`, `of=${disk}`, 'bs=512', `seek=${start}`, 'conv=notrunc', 'status=none']);
        for (const part of table === 'GPT' ? ['2', 'root'] : ['6']) {
          await withMount(disk, mountpoint, `part=${part}`, () => writeFileSync(join(mountpoint, part), part));
        }
        run('dd', [`if=${disk}`, `of=${image}`, 'bs=512', `skip=${start}`, `count=${(40 << 20) / 512}`, 'status=none']);
        assert.equal(fsckFile(image).code, 0);
        assert.match(run('debugfs', ['-R', 'ls /', image]).output, new RegExp(String(number)));
        const refused = run(EXT4D, ['mount', '-o', 'part=9', disk, mountpoint]);
        assert.match(refused.output, /no such partition; it has the partitions 1/);
      });
    });
  }
});

describe('descriptors that a launcher hands over', function () {
  this.timeout(60_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  it('are taken as the image: /dev/fd/N', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      const fd = openSync(image, 'r+');
      const child = spawn(process.execPath, [EXT4D, 'mount', '/dev/fd/7', mountpoint], {
        stdio: ['ignore', 'inherit', 'inherit', 'ignore', 'ignore', 'ignore', 'ignore', fd],
      });
      closeSync(fd);
      try {
        assert.equal(await new Promise((done) => child.on('exit', done)), 0);
        writeFileSync(join(mountpoint, 'file'), 'x');
      } finally {
        run('umount', [mountpoint]);
      }
      for (let i = 0; i < 100 && isMounted(mountpoint); i++) await wait(50);
      await wait(500);
      assert.equal(fsckFile(image).code, 0);
      assert.match(run('debugfs', ['-R', 'ls /', image]).output, /file/);
    }));
});
