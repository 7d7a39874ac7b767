/** `npm run manual`: the lists of ignored and refused mount options in man/ext4d.8, from src/cli/mount-words.ts as compiled. */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { IGNORED, REFUSED } from '../build/src/cli/mount-words.js';

const path = fileURLToPath(new URL('../man/ext4d.8', import.meta.url));
const words = [...IGNORED].sort().map((word) => word.replace('=', '\\&='));
const ignored = words.map((word, i) => `.Cm ${word} ${i === words.length - 1 ? '.' : ','}\n`).join('');
const refused = Object.entries(REFUSED).map(
  ([word, why]) => `.It Cm ${word}\n${why[0].toUpperCase()}${why.slice(1)}.\n`,
);

function between(page, start, end, text) {
  const from = page.indexOf(start) + start.length;
  const to = page.indexOf(end, from);
  if (from < start.length || to < 0) throw new Error(`${path}: "${start.trim()}" is missing`);
  return page.slice(0, from) + text + page.slice(to);
}

let page = readFileSync(path, 'utf8');
page = between(page, 'or meant for others than a filesystem:\n', 'Also every word', ignored);
page = between(page, 'and these say why:\n.Bl -tag -width Ds\n', '.El\n.Sh ENVIRONMENT', refused.join(''));
writeFileSync(path, page);
