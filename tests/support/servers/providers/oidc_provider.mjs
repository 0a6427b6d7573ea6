// An OpenID Connect provider with one client; whoever signs in is whom they say they are.
// node oidc_provider.mjs ISSUER REDIRECT_URI PEOPLE
// PEOPLE is a file that is read anew each time: the groups of people by their subject, null for who is disabled.
import { readFileSync } from 'node:fs';
import Provider from 'oidc-provider';

const [issuer, redirect, people] = process.argv.slice(2);
const groupsOf = (id) => JSON.parse(readFileSync(people))[id] ?? undefined;

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'condery',
    client_secret: 'secret of a test',
    redirect_uris: [redirect],
    grant_types: ['authorization_code', 'refresh_token'],
  }],
  scopes: ['openid', 'offline_access', 'profile'],
  claims: { openid: ['sub'], profile: ['preferred_username', 'groups'] },
  pkce: { required: () => true },
  issueRefreshToken: async (_, client) => client.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: true, // and one that is shown twice ends all that came of that sign-in
  findAccount: (_, id) => groupsOf(id) && {
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id.toLowerCase(), groups: groupsOf(id) }),
  },
});
provider.listen(new URL(issuer).port, '127.0.0.1', () => console.log('listening'));
