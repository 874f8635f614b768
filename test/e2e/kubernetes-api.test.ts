// time limit: 240 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { failureOf } from '../support/pull-site.ts';
import { canRun } from '../support/real/components.ts';
import { kubeApiSkipReason, startKubeApi } from '../support/real/kube-api.ts';

const NODE = { name: 'system:node:node-1', groups: ['system:nodes'] };

if (canRun(kubeApiSkipReason())) {
  test('startKubeApi() gives an API server that knows users, roles and service accounts', async () => {
    await using api = await startKubeApi({ users: [NODE] });
    const { kubectl } = api;
    assert.match(await kubectl.apply(namespace('team')), 'namespace/team created');
    await kubectl.apply(serviceAccount('team', 'reader'));

    const token = await api.serviceAccountToken('team', 'reader');
    const asReader = ['--kubeconfig', api.kubeconfigWith(token)];
    const refused = await failureOf(kubectl.run(...asReader, 'get', 'pods', '-n', 'team'));
    assert.match(refused.message, 'system:serviceaccount:team:reader');
    await kubectl.run('create', 'role', 'pods', '--verb=list', '--resource=pods', '-n', 'team');
    await kubectl.run(
      'create',
      'rolebinding',
      'pods',
      '--role=pods',
      '--serviceaccount=team:reader',
      '-n',
      'team',
    );
    assert.match(await kubectl.run(...asReader, 'get', 'pods', '-n', 'team', '-o', 'name'), /^$/);

    const asNode = ['--kubeconfig', api.kubeconfigOf(NODE.name)];
    await kubectl.run('create', 'secret', 'generic', 'password', '-n', 'team', '--from-literal=a=b');
    const foreign = await failureOf(kubectl.run(...asNode, 'get', 'secret', 'password', '-n', 'team'));
    assert.match(foreign.message, 'no relationship found between node');
  });
}

test.run();

function namespace(name: string): object {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name } };
}

function serviceAccount(namespace: string, name: string): object {
  return { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace } };
}
