/** Quotas of a mounted filesystem: what ordinary users meet, and what a killed server leaves. The kernel's are in test/fstests. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, rmSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fsckFile, makeImageFile, run } from '../support/mke2fs.js';
import { EXT4D, Mount, requireOrSkip, whyNoFuse, withMount, withMountpoint } from '../support/server.js';

const QUOTA = ['-O', 'quota,project', '-E', 'quotatype=usrquota:grpquota:prjquota'];
const MOUNT = 'allow_other,default_permissions';
const LIMITED = `${MOUNT},usrquota,grpquota,prjquota`;

/** Runs a shell command line as another user. */
function as(uid: number, gid: number, directory: string, script: string): { code: number; output: string } {
  const ids = ['--reuid', `${uid}`, '--regid', `${gid}`, '--clear-groups'];
  return run('setpriv', [...ids, 'sh', '-c', `cd ${directory} && ${script}`]);
}

function limit(image: string, ...args: string[]): void {
  const { code, output } = run(EXT4D, ['quota', ...args, image]);
  assert.equal(code, 0, output);
}

interface Entry {
  id: number;
  space: { used: number; soft: number; hard: number };
  inodes: { used: number; soft: number; hard: number };
}

function quotasOf(image: string): Record<string, Map<number, Entry>> {
  const { code, output } = run(EXT4D, ['quota', '--json', image]);
  assert.equal(code, 0, output);
  const { quotas } = JSON.parse(output) as { quotas: { type: string; entries: Entry[] }[] };
  return Object.fromEntries(
    quotas.map(({ type, entries }) => [type, new Map(entries.map((entry) => [entry.id, entry]))]),
  );
}

function mustBeClean(image: string): void {
  const { code, output } = fsckFile(image);
  assert.equal(code, 0, output);
  const check = run(EXT4D, ['check', image]);
  assert.equal(check.code, 0, check.output);
}

/** A new image with a directory `d` for everybody, mounted by `use`. */
function withImage(
  args: string[],
  use: (image: string, mountpoint: string, d: string) => Promise<void>,
): Promise<void> {
  return withMountpoint(async (scratch, mountpoint) => {
    chmodSync(scratch, 0o755);
    const image = join(scratch, 'image');
    makeImageFile(image, 64, [...args, ...QUOTA]);
    const d = join(mountpoint, 'd');
    await withMount(image, mountpoint, MOUNT, () => {
      mkdirSync(d);
      chmodSync(d, 0o777);
    });
    await use(image, mountpoint, d);
    mustBeClean(image);
  });
}

describe('quotas of a mounted filesystem', function () {
  this.timeout(120_000);
  before(function () {
    const asRoot = process.getuid?.() === 0;
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse() ?? (asRoot ? null : 'only root can be several users'));
  });

  for (const blockSize of ['1024', '4096']) {
    it(`count what users, groups and projects use, as debugfs reads it (${blockSize})`, () =>
      withImage(['-b', blockSize], async (image, mountpoint, d) => {
        await withMount(image, mountpoint, MOUNT, () => {
          for (let i = 0; i < 60; i++)
            as(1000 + i * 5003, 2000 + i, d, `head -c ${i * 3000} /dev/zero >f${i}; mkdir e${i}`);
          for (let i = 0; i < 60; i += 3) rmSync(join(d, `f${i}`));
          for (let i = 0; i < 60; i += 3) rmSync(join(d, `e${i}`), { recursive: true });
          run('chown', ['424242:99', join(d, 'f1')]);
          mkdirSync(join(d, 'p'));
          assert.equal(run('chattr', ['-p', '3456', '+P', join(d, 'p')]).output, '');
          writeFileSync(join(d, 'p', 'inherits'), Buffer.alloc(50_000));
        });
        const quotas = quotasOf(image);
        assert.equal(quotas.user.get(424_242)?.inodes.used, 1);
        assert.equal(quotas.group.get(2001)?.inodes.used, 1);
        assert.equal(quotas.user.has(1000), false);
        assert.equal(quotas.project.get(3456)?.inodes.used, 2);
        for (const [type, entries] of Object.entries(quotas)) {
          const { output } = run('debugfs', ['-R', `list_quota ${type}`, image]);
          const rows = output.split('\n').map((line) => line.trim().split(/\s+/).map(Number));
          const shown = new Map(rows.filter((row) => row.length === 7).map((row) => [row[0], row]));
          assert.deepEqual([...shown.keys()].sort(), [...entries.keys()].sort());
          for (const [id, { space, inodes }] of entries) {
            assert.deepEqual(shown.get(id), [id, space.used, 0, 0, inodes.used, 0, 0]);
          }
        }
      }));
  }

  it('refuse a write that exceeds them when it is made, and not root', () =>
    withImage(['-b', '1024'], async (image, mountpoint, d) => {
      limit(image, '--set', 'user:1000', '--space', '0:100k', '--inodes', '0:3');
      limit(image, '--set', 'project:8', '--space', '90k:100k');
      await withMount(image, mountpoint, LIMITED, () => {
        const written = as(1000, 1000, d, 'dd if=/dev/zero of=f bs=30k count=5');
        assert.match(written.output, /quota exceeded/i);
        assert.equal(statSync(join(d, 'f')).size, 100 << 10);
        assert.match(as(1000, 1000, d, 'fallocate -l 200k g').output, /quota exceeded/i);
        assert.equal(as(1000, 1000, d, 'mkdir h').output.match(/quota exceeded/i)?.length, 1);
        assert.equal(as(1000, 1000, d, 'rm f && head -c 50000 /dev/zero >f').code, 0);
        assert.equal(run('chown', ['1000', d]).code, 0);
        const project = join(mountpoint, 'p');
        mkdirSync(project);
        assert.equal(run('chattr', ['-p', '8', '+P', project]).output, '');
        chmodSync(project, 0o777);
        assert.match(as(1001, 1001, project, 'head -c 200000 /dev/zero >f').output, /quota exceeded/i);
        assert.equal(statfsSync(project).blocks, 90);
        assert.match(run('ln', [join(d, 'f'), join(project, 'f2')]).output, /cross-device/i);
        writeFileSync(join(project, 'by root'), Buffer.alloc(300_000));
      });
      // Without the words they only count.
      await withMount(image, mountpoint, MOUNT, () => {
        assert.equal(as(1000, 1000, d, 'head -c 500000 /dev/zero >f && touch 1 2 3 4 5').code, 0);
      });
    }));

  it('are free again for whoever has just removed something', () =>
    withImage(['-b', '1024'], async (image, mountpoint, d) => {
      limit(image, '--set', 'user:1000', '--space', '0:100k', '--inodes', '0:2');
      await withMount(image, mountpoint, LIMITED, () => {
        const script = `process.setgid(1000); process.setuid(1000); const fs = require('fs');
          for (let i = 0; i < 200; i++) {
            fs.writeFileSync('a', Buffer.alloc(90_000)); fs.writeFileSync('b', ''); fs.rmSync('a'); fs.rmSync('b');
          }`;
        const { code, output } = run('sh', ['-c', `cd ${d} && exec ${process.execPath} -e "${script}"`]);
        assert.equal(code, 0, output);
      });
    }));

  for (const args of [
    ['-b', '1024', '-J', 'size=1'],
    ['-b', '4096'],
    ['-b', '1024', '-O', '^extent,^64bit'],
    ['-b', '1024', '-O', 'orphan_file'],
  ]) {
    it(`are right after the server was killed at work (${args.join(' ')})`, () =>
      withImage(args, async (image, mountpoint, d) => {
        for (let round = 0; round < 3; round++) {
          const mount = await Mount.start(image, mountpoint, MOUNT);
          const writers: ChildProcess[] = [];
          try {
            for (let user = 1; user <= 3; user++) {
              const ids = ['--reuid', `${user * 100_000}`, '--regid', `${user}`, '--clear-groups'];
              const script = `cd ${d}; i=0; while :; do i=$((i + 1)); f=w${user}-${round}-$((i % 40))
                head -c $((i * 977 % 90000)) /dev/zero >$f; mkdir $f.d; [ $((i % 3)) = 0 ] && rm -r w${user}-*-$((i % 7))*
                [ $((i % 17)) = 0 ] && sync $f; done`;
              writers.push(spawn('setpriv', [...ids, 'sh', '-c', script], { stdio: 'ignore' }));
            }
            for (let i = 0; i < 20; i++) {
              await wait(50);
              run('sh', ['-c', `chown ${7000 + i}:${i} ${d}/w*-${i} 2>/dev/null`]);
            }
            await mount.kill();
          } finally {
            mount.cleanUp();
            for (const writer of writers) writer.kill('SIGKILL');
          }
          await wait(50);
          const { code, output } = run(EXT4D, ['replay', image]);
          assert.ok(code <= 1, output);
          mustBeClean(image);
        }
        await withMount(image, mountpoint, MOUNT, () => rmSync(d, { recursive: true }));
        for (const entries of Object.values(quotasOf(image))) assert.deepEqual([...entries.keys()], [0]);
      }));
  }

  it('that cannot be kept are said to be', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 16, []);
      const mount = await Mount.start(image, mountpoint, 'usrquota,grpjquota=aquota.group,jqfmt=vfsv1');
      try {
        await mount.unmount();
      } finally {
        mount.cleanUp();
      }
      assert.match(mount.stderr, /usrquota: the image has no quota feature/);
      assert.match(mount.stderr, /grpjquota=aquota.group: that file is not kept right; run quotacheck/);
      await assert.rejects(Mount.start(image, mountpoint, 'prjquota'), /prjquota: the image has no project feature/);
      const before = readFileSync(image);
      const { code, output } = run(EXT4D, ['quota', image]);
      assert.equal(code, 4);
      assert.match(output, /no quota feature: add it with tune2fs -O quota/);
      assert.ok(readFileSync(image).equals(before));
    }));
});
