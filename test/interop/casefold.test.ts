/** Directories in which the case of names does not matter, judged by e2fsprogs, which knows the kernel's tables. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { casefold } from '../../src/ext4/casefold.js';
import { DX_HASH_HALF_MD4, hashName, nameHash } from '../../src/ext4/dir-hash.js';
import type { Geometry } from '../../src/ext4/volume.js';
import { codeOf } from '../support/code-of.js';
import { fsckFile, makeImageFile, run, withScratch } from '../support/mke2fs.js';
import { requireOrSkip, whyNoFuse, withMount, withMountpoint } from '../support/server.js';

/** Every character of the basic plane with a say in case, every 16th of the others, and marks in all orders. */
function names(): string[] {
  const all: string[] = [];
  for (let code = 0x80; code < 0x30000; code++) {
    const dense = code < 0x3400 || (code >= 0xa640 && code < 0xac00) || (code >= 0xf900 && code < 0x11d00);
    const surrogate = code >= 0xd800 && code < 0xe000;
    if (!surrogate && (dense || (code >= 0x1d000 && code < 0x1f000) || code % 16 === 0))
      all.push(`X${String.fromCodePoint(code)}`);
  }
  const marks = [0x301, 0x316, 0x345, 0x34f, 0xad, 0x327, 0x5b0, 0x200d, 0x1dc4, 0x1ac1];
  for (const a of marks)
    for (const b of marks)
      for (const c of marks) all.push(`Aé${String.fromCodePoint(a)}İ${String.fromCodePoint(b, c)}ẞ`);
  return all;
}

describe('casefolding', function () {
  this.timeout(120_000);

  it('folds every name as e2fsprogs does: their hashes are equal', () =>
    withScratch((scratch) => {
      const all = names();
      const script = join(scratch, 'script');
      writeFileSync(script, all.map((name) => `dx_hash -c -e utf8 -h half_md4 ${name}\n`).join(''));
      const said = execFileSync('debugfs', ['-f', script], { encoding: 'utf8', maxBuffer: 1 << 28, stdio: 'pipe' });
      const theirs = said.split('\n').filter((line) => line.startsWith('Hash of'));
      assert.equal(theirs.length, all.length);
      const geometry = { hashSeed: new Uint8Array(16), hashUnsigned: false } as unknown as Geometry;
      const different = all.filter((name, i) => {
        const raw = Buffer.from(name);
        hashName(geometry, DX_HASH_HALF_MD4, casefold(raw) ?? raw);
        return !theirs[i].includes(` is 0x${nameHash.hash.toString(16)} `);
      });
      assert.deepEqual(different, []);
    }));

  it('leaves what is not UTF-8 as it is', () => {
    assert.equal(casefold(Buffer.from([0x41, 0xff])), null);
    assert.equal(casefold(Buffer.from([0xed, 0xa0, 0x80])), null);
  });
});

describe('a casefolded directory', function () {
  this.timeout(120_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  const mounted = (mkfs: string[], use: (at: (path: string) => string, image: string) => void) =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 64, ['-b', '1024', '-O', 'casefold', ...mkfs]);
      await withMount(image, mountpoint, '', () => use((path) => join(mountpoint, path), image));
      const { code, output } = fsckFile(image);
      assert.equal(code, 0, output);
    });

  it('finds names in any case, keeps the case they were made with, and forgets all spellings at once', () =>
    mounted([], (at) => {
      mkdirSync(at('d'));
      assert.equal(run('chattr', ['+F', at('d')]).output, '');
      assert.ok(!existsSync(at('d/STRASSE')), 'what is not there is not remembered as missing');
      writeFileSync(at('d/Straße'), 'content');
      assert.equal(readFileSync(at('d/STRASSE'), 'utf8'), 'content');
      assert.deepEqual(readdirSync(at('d')), ['Straße']);
      assert.equal(
        codeOf(() => mkdirSync(at('d/strasse'))),
        'EEXIST',
      );
      renameSync(at('d/sTRASSE'), at('d/Gasse'));
      unlinkSync(at('d/gASSE'));
      for (const name of ['Straße', 'STRASSE', 'Gasse', 'gASSE']) assert.ok(!existsSync(at(`d/${name}`)), name);
      mkdirSync(at('d/Sub'));
      writeFileSync(at('D/X'.replace('D', 'd/sub')), '');
      assert.ok(existsSync(at('d/SUB/x')), 'new directories fold as well');
      assert.ok(!existsSync(at('D')), 'the root does not');
    }));

  it('can only be switched while it is empty', () =>
    mounted([], (at) => {
      mkdirSync(at('d'));
      writeFileSync(at('d/file'), '');
      assert.match(run('chattr', ['+F', at('d')]).output, /not empty/);
    }));

  it('takes names that are not UTF-8 byte for byte, unless the filesystem is strict', async () => {
    const odd = (at: (path: string) => string) => Buffer.concat([Buffer.from(at('d/')), Buffer.from([0x41, 0xff])]);
    const prepare = (at: (path: string) => string) => {
      mkdirSync(at('d'));
      run('chattr', ['+F', at('d')]);
    };
    await mounted([], (at) => {
      prepare(at);
      writeFileSync(odd(at), 'odd');
      assert.equal(readFileSync(odd(at), 'utf8'), 'odd');
    });
    await mounted(['-E', 'encoding_flags=strict'], (at) => {
      prepare(at);
      assert.equal(
        codeOf(() => writeFileSync(odd(at), '')),
        'EINVAL',
      );
    });
  });

  it('with an index is found in, grows and shrinks by any spelling', () =>
    mounted([], (at) => {
      const LETTERS = ['Ä', 'ß', 'Σ', 'Ꭰ', 'Å', 'q'];
      const nameOf = (i: number) => `${LETTERS[i % LETTERS.length]} ${i} ${'Längs'.repeat(i % 5)}`;
      mkdirSync(at('d'));
      run('chattr', ['+F', at('d')]);
      for (let i = 0; i < 1500; i++) writeFileSync(at(`d/${nameOf(i)}`), String(i));
      for (let i = 0; i < 1500; i += 4) rmSync(at(`d/${nameOf(i).toUpperCase()}`));
      for (let i = 0; i < 1500; i++) {
        for (const spelling of [nameOf(i), nameOf(i).toUpperCase(), nameOf(i).toLowerCase().normalize('NFD')])
          assert.equal(existsSync(at(`d/${spelling}`)), i % 4 !== 0, spelling);
      }
      assert.equal(readdirSync(at('d')).length, 1125);
      assert.ok(statSync(at('d')).size > 20_000, 'it has an index');
    }));
});
