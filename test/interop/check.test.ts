/** `ext4d check` next to e2fsck: what one finds wrong the other must not pass. */
import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fsckFile, makeImageFile, run, withScratch } from '../support/mke2fs.js';
import { EXT4D } from '../support/server.js';

const CLUSTERS = ['-O', 'bigalloc', '-C', '16384'];

const IMAGES: Record<string, string[]> = {
  'default features': [],
  '1 KiB blocks': ['-b', '1024'],
  'an orphan file': ['-O', 'orphan_file'],
  'no checksums': ['-O', '^metadata_csum'],
  'no 64bit, 2 KiB blocks': ['-O', '^64bit', '-b', '2048'],
  'no flex_bg': ['-O', '^flex_bg'],
  mmp: ['-O', 'mmp'],
  'clusters of 16 KiB': CLUSTERS,
  'clusters of 8 KiB, 1 KiB blocks': ['-b', '1024', '-O', 'bigalloc,mmp', '-C', '8192'],
};

/** Damage done by debugfs, which mends every checksum: the contradiction is all there is to find. */
const DAMAGE: Record<string, string[]> = {
  'a link too many': ['sif /file links_count 3'],
  'a directory link too many': ['sif /dir links_count 7'],
  'a name without an inode': ['freei <FILE>'],
  'an inode without a name': ['unlink /file'],
  'a used block marked free': ['freeb BLOCK'],
  'a free block marked used': ['setb 7000'],
  'an inode that is empty': ['clri <FILE>'],
  'a wrong count of blocks': ['sif /file blocks 4096'],
  'a size that leaves out written blocks': ['sif /file size 1'],
  'an entry of another type': ['unlink /link', 'ln <FILE> /link'],
  'a directory with two names': ['ln <DIR> /second'],
  'a wrong count of free blocks': ['set_bg 0 free_blocks_count 3', 'set_bg 0 checksum calc'],
  'a wrong count of free inodes': ['set_bg 0 free_inodes_count 3', 'set_bg 0 checksum calc'],
  'a wrong count of directories': ['set_bg 0 used_dirs_count 9', 'set_bg 0 checksum calc'],
  'a wrong total of free blocks': ['ssv free_blocks_count 3'],
};

function makeTree(scratch: string, path: string, args: readonly string[]): void {
  const tree = join(scratch, 'tree');
  mkdirSync(join(tree, 'dir', 'deeper'), { recursive: true });
  writeFileSync(join(tree, 'file'), Buffer.alloc(30_000, 'x'));
  writeFileSync(join(tree, 'other'), 'small');
  for (let i = 0; i < 300; i++) writeFileSync(join(tree, 'dir', `a-name-that-fills-a-directory-soon-${i}`), `${i}`);
  symlinkSync('file', join(tree, 'link'));
  symlinkSync('y'.repeat(100), join(tree, 'long'));
  makeImageFile(path, 32, ['-d', tree, ...args]);
}

describe('ext4d check', () => {
  for (const [title, args] of Object.entries(IMAGES)) {
    it(`finds nothing wrong where nothing is (${title})`, () =>
      withScratch((scratch) => {
        const path = join(scratch, 'image');
        makeTree(scratch, path, args);
        assert.equal(fsckFile(path).code, 0);
        const { code, output } = run(EXT4D, ['check', path]);
        assert.equal(code, 0, output);
        assert.match(output, /no contradictions/);
      }));
  }

  for (const [title, commands, mkfs] of [
    ...Object.entries(DAMAGE).map(([title, commands]) => [title, commands, []] as const),
    ...Object.entries(DAMAGE).map(([title, commands]) => [`${title}, with clusters`, commands, CLUSTERS] as const),
  ]) {
    it(`finds ${title}, as e2fsck does`, () =>
      withScratch((scratch) => {
        const path = join(scratch, 'image');
        makeTree(scratch, path, mkfs);
        const number = (name: string) =>
          /^Inode: (\d+)/m.exec(run('debugfs', ['-R', `stat ${name}`, path]).output)?.[1];
        const block = /\d+/.exec(run('debugfs', ['-R', 'blocks /file', path]).output.split('\n').at(-2) ?? '')?.[0];
        const words: Record<string, string> = {
          FILE: number('/file') ?? '',
          DIR: number('/dir') ?? '',
          BLOCK: block ?? '',
        };
        const script = commands.map((line) => line.replace(/FILE|DIR|BLOCK/, (word) => words[word])).join('\n');
        const commandFile = join(scratch, 'commands');
        writeFileSync(commandFile, `${script}\n`);
        const { output: said } = run('debugfs', ['-w', '-f', commandFile, path]);
        assert.notEqual(fsckFile(path).code, 0, `e2fsck sees nothing wrong; debugfs said: ${said}`);
        const { code, output } = run(EXT4D, ['check', path]);
        assert.equal(code, 4, `nothing found: ${output}`);
        const report = JSON.parse(run(EXT4D, ['check', '--json', path]).output.trim());
        assert.ok(report.findings.length > 0);
      }));
  }
});
