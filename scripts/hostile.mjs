/** `npm run test:hostile`: sets up and tries hostile images; its options are those of test/property/hostile/main.ts. */
import { setup } from './setup.mjs';

if (!setup()) process.exit(2);
await import('../build/test/property/hostile/main.js');
