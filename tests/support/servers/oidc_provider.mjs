// An OpenID Connect provider with one client; whoever signs in is whom they say they are.
// node oidc_provider.mjs ISSUER REDIRECT_URI
import Provider from 'oidc-provider';

const [issuer, redirect] = process.argv.slice(2);
const provider = new Provider(issuer, {
  clients: [{ client_id: 'condery', client_secret: 'secret of a test', redirect_uris: [redirect] }],
  claims: { openid: ['sub'], profile: ['preferred_username', 'groups'] },
  pkce: { required: () => true },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id.toLowerCase(), groups: ['dev', 'Domain Users'] }),
  }),
});
provider.listen(new URL(issuer).port, '127.0.0.1', () => console.log('listening'));
