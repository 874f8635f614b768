import { Command } from 'commander';
import { stringify } from 'yaml';
import { DEFAULT_KEY_PREFIX } from '../../../../webhook/annotation-keys.ts';
import { makeManifests } from './manifests.ts';

interface Flags {
  readonly image: string;
  readonly namespace: string[];
  readonly ownNamespace: string;
  readonly keyPrefix: string;
  readonly arg: string[];
}

const collect = (value: string, before: string[]) => [...before, value];
const program = new Command('generate')
  .description(
    'Prints the manifests of the webhook: node generate.ts --image … --namespace … | kubectl apply -f -',
  )
  .requiredOption('--image <IMAGE>', 'image with this repository in /opt/shoal')
  .option('--namespace <NAME>', 'a namespace whose pull secrets it may copy; may be repeated', collect, [])
  .option('--own-namespace <NAME>', 'where it runs', 'shoal-system')
  .option('--key-prefix <PREFIX>', 'of the keys of labels and annotations', DEFAULT_KEY_PREFIX)
  .option(
    '--arg <ARGUMENT>',
    'a further argument of the webhook, such as --arg=--rewrite-images',
    collect,
    [],
  );

const { image, namespace: namespaces, ownNamespace, keyPrefix, arg: args } = program.parse().opts<Flags>();
const manifests = makeManifests({ image, namespaces, ownNamespace, keyPrefix, args });
process.stdout.write(manifests.map((manifest) => stringify(manifest)).join('---\n'));
