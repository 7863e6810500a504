"""Texts with URLs, headers and credentials."""

# Stands for a key, a password or a host in each of the texts.
SECRET = "abcdefgh"
# fmt: off
TEXTS_WITH_SECRET = [
    *r"""
auth: Token abcdefgh
auth=Token abcdefgh
X_API_KEY=abcdefgh
x-api-key abcdefgh
x-api-key: abcdefgh
X-API-Key "abcdefgh"
x_api_key is abcdefgh
the password is abcdefgh
password was abcdefgh
password - abcdefgh
password: correct abcdefgh battery
passwd=abcdefgh
pwd abcdefgh1
pw: abcdefgh
db_pw=abcdefgh
getaddrinfo ENOTFOUND abcdefgh.render.lan
getaddrinfo ENOTFOUND abcdefgh-12
getaddrinfo EAI_AGAIN abcdefgh7
dial tcp: lookup abcdefgh.prod.svc: no such host
dial tcp: lookup abcdefgh-7f9c on 10.96.0.10:53: no such host
Failed to resolve 'abcdefgh.render' ([Errno -2] Name or service not known)
Could not resolve host: abcdefgh-17
Name or service not known: abcdefgh12
no route to abcdefgh.dc1.corp
see help.abcdefgh.eu
HTTPConnectionPool(host='abcdefgh', port=8080): Max retries exceeded
pass phrase: abcdefgh
https:\\/\\/abcdefgh.seller.zone\\/a
https:\/\/abcdefgh.zone\/a
https%3A%2F%2Fabcdefgh.zone%2Fa
https%253A%252F%252Fabcdefgh.zone%252Fa
https%25253A%25252F%25252Fabcdefgh
http:/abcdefgh
http:abcdefgh
http:\abcdefgh
http:\\abcdefgh
https&#58;&#47;&#47;abcdefgh
https&colon;&sol;&sol;abcdefgh
https&amp;#58;&amp;#47;&amp;#47;abcdefgh
https\u003a\u002f\u002fabcdefgh
https\\u003a\\u002f\\u002fabcdefgh
https\x3a\x2f\x2fabcdefgh
https=3A=2F=2Fabcdefgh
https[:]//abcdefgh[.]zone
hxxps://abcdefgh.zone/a
https: //abcdefgh/a
https:// abcdefgh/a
https : // abcdefgh
https//abcdefgh/a
//abcdefgh/a
s3://abcdefgh/a
gs:abcdefgh//b
ftp:/abcdefgh
ws:/abcdefgh
redis://:abcdefgh@10.0.0.1
user:abcdefgh@localhost
(see https://abcdefgh/)
<https://abcdefgh>
"url":"https://abcdefgh"
url=https://abcdefgh
url=//abcdefgh
mailto:abcdefgh@seller.zone
{"api_key":"abcdefgh"}
{"apiKey": "abcdefgh"}
{\"api_key\": \"abcdefgh\"}
{\\\"api_key\\\": \\\"abcdefgh\\\"}
{'token': 'abcdefgh'}
accessToken=abcdefgh
access_token abcdefgh
access-token:abcdefgh
?key=abcdefgh&size=1k
?size=1k&key=abcdefgh
?sig=abcdefgh
apikey abcdefgh
apikey=abcdefgh
APIKEY: abcdefgh
API key: abcdefgh
API key provided: abcdefgh
API key is abcdefgh
API-key abcdefgh
your api key (abcdefgh) is invalid
Your API key "abcdefgh1" is invalid
Incorrect API key: 'abcdefgh'
the key is: abcdefgh
key := abcdefgh
key => abcdefgh
key -> abcdefgh
key => "abcdefgh"
key = abcdefgh
api key = abcdefgh
token:abcdefgh
token is abcdefgh
token value abcdefgh
token "abcdefgh9"
session cookie: a=abcdefgh
Cookie: sid=1; b=abcdefgh
Cookie sid=abcdefgh
Set-Cookie: abcdefgh
Authorization abcdefgh1
Authorization header Bearer abcdefgh
Authorization header was Bearer abcdefgh
Authorization header: abcdefgh
Authorization: abcdefgh
Authorization = abcdefgh
authorization="Bearer abcdefgh"
Proxy-Authorization: abcdefgh
Proxy-Authorization abcdefgh
Bearer abcdefgh
bearer: abcdefgh
Bearer=abcdefgh
-H 'x-api-key: abcdefgh'
--header "Authorization: Token abcdefgh"
X-Seller-Account abcdefgh
X-Request-Id: abcdefgh
Cf-Ray: abcdefgh
Etag: abcdefgh
Retry-After: abcdefgh
Server-Timing: abcdefgh
www-authenticate: abcdefgh
x-amz-security-token=abcdefgh
X-Amz-Signature=abcdefgh
AWSAccessKeyId=abcdefgh
aws_secret_access_key = abcdefgh
SECRET_KEY=abcdefgh
client_secret abcdefgh
client secret: abcdefgh
secret is abcdefgh
secret=abcdefgh
private key abcdefgh1
-----BEGIN PRIVATE KEY----- abcdefgh -----END
hmac=abcdefgh
signature: abcdefgh
csrf_token: abcdefgh
OPENAI_API_KEY=abcdefgh
export KEY=abcdefgh
key[abcdefgh1]
key<abcdefgh1>
key#abcdefgh1
key/abcdefgh1
key|abcdefgh1
key;abcdefgh1
key, abcdefgh1, is invalid
key no. abcdefgh1
abcdefgh is not a valid API key
'abcdefgh' is not a valid token
abcdefgh is an invalid key
the key abcdefgh1 was revoked
invalid token abcdefgh1
token=abcdefgh,token=abcdefgh
password=abcdefgh;password: abcdefgh
x-api-key :abcdefgh
x-api-key\nabcdefgh
x-api-key%3A%20abcdefgh
x-api-key&#58; abcdefgh
api_key%3Dabcdefgh
api.key=abcdefgh
api key abcdefgh1
Api_Key[0]=abcdefgh
api_keys: 1, abcdefgh
headers: {'x-api-key': 'abcdefgh'}
('x-api-key', 'abcdefgh')
[["x-api-key","abcdefgh"]]
b'x-api-key': b'abcdefgh'
(b'authorization', b'Bearer abcdefgh')
token == abcdefgh
token !== abcdefgh
passphrase abcdefgh1
credentials abcdefgh:secret1
credentials: abcdefgh
login with abcdefgh:p4ss@host
otp 12345678abcdefgh
nonce=abcdefgh
JWT abcdefgh
jwt=abcdefgh
key is "my abcdefgh"
password "my abcdefgh"
We received your key abcdefgh1 but it is unknown
Unauthorized (api-key=abcdefgh)
apiKey:abcdefgh,model:gpt-image-2
request failed: {"headers":{"x-api-key":"abcdefgh","accept":"*/*"}}
{"error":{"message":"bad token: abcdefgh"}}
{"error":"{\"message\":\"token \\\"abcdefgh1\\\" expired\"}"}
Token: "abcdefgh" expired
token='abcdefgh' expired
Token <abcdefgh1> expired
Token [abcdefgh1] expired
token:: abcdefgh
token:= abcdefgh
token: abcdefgh
X-Auth abcdefgh1
X-Auth: abcdefgh
X_AUTH_TOKEN: abcdefgh
x-auth-token abcdefgh
xapikey=abcdefgh
HTTP_X_API_KEY=abcdefgh
HTTP_AUTHORIZATION=Bearer abcdefgh
http_authorization: Bearer abcdefgh
authorization:bearer abcdefgh
authorization:  Bearer   abcdefgh
AUTHORIZATION:BEARER:abcdefgh
Auth: Basic abcdefgh
Auth token: abcdefgh
auth_key abcdefgh
auth-header: abcdefgh
Auth header: Token abcdefgh
my password is abcdefgh
password is: abcdefgh
Password="abcdefgh"
password=abcdefgh&user=1
&password=abcdefgh
pass=abcdefgh
DB_PASSWORD=abcdefgh
db.password: abcdefgh
userPassword=abcdefgh
passwords: abcdefgh
password(abcdefgh)
the password given was abcdefgh
password used: abcdefgh
wrong password: abcdefgh
password `abcdefgh`
secret: abcdefgh
SECRET abcdefgh1
secrets: abcdefgh
webhook_secret=abcdefgh
clientSecret":"abcdefgh
Signing key abcdefgh1
signing-key abcdefgh
encryption key: abcdefgh
license key: abcdefgh
licenseKey=abcdefgh
subscription-key: abcdefgh
Ocp-Apim-Subscription-Key: abcdefgh
Subscription key is abcdefgh
api-token abcdefgh
bearer_token=abcdefgh
id_token=abcdefgh
refresh_token: abcdefgh
session_token abcdefgh
sessionToken=abcdefgh
session id: abcdefgh
session=abcdefgh
PHPSESSID=abcdefgh
JSESSIONID=abcdefgh
connect.sid=abcdefgh
Credential=abcdefgh/20260101/eu-west-1/s3/aws4_request
AWS4-HMAC-SHA256 Credential=abcdefgh, SignedHeaders=host
Signature=abcdefgh
?X-Amz-Credential=abcdefgh&X-Amz-Date=1
?se=2026&sig=abcdefgh
Negotiate abcdefgh1==
NTLM abcdefgh1==
Accept-Language: abcdefgh
Content-Disposition: abcdefgh
Via: 1.1 abcdefgh.internal
X-Forwarded-Host: abcdefgh
Host: abcdefgh
Referer: abcdefgh
Location: https:/abcdefgh
Link: <https://abcdefgh>; rel=next
URL: abcdefgh.seller.zone/a/b
download from abcdefgh.zone/a?x=1
open abcdefgh.zone:443
ws//abcdefgh/a
HTTPS://ABCDEFGH/abcdefgh
hTtPs:/\/abcdefgh
https:\u002f\u002fabcdefgh
https\072//abcdefgh
%68ttps%3a//abcdefgh
&#104;ttps://abcdefgh
&#x68;&#x74;&#x74;&#x70;://abcdefgh
\x68\x74\x74\x70\x3a\x2f\x2fabcdefgh
https:%5C/%5C/abcdefgh
https:%255C%252F%255C%252Fabcdefgh
%2F%2Fabcdefgh.zone%2Fa
url(https://abcdefgh)
[link](https://abcdefgh)
href='//abcdefgh/x'
view-source:https://abcdefgh
jdbc:postgresql://abcdefgh/x
data:text/plain,abcdefgh
DATA:image/png;base64,abcdefgh
blob:https://abcdefgh
file:///abcdefgh
file:/abcdefgh
sftp://abcdefgh
key abcd-efgh-abcdefgh1
kEy=abcdefgh
key\u003dabcdefgh
key%3dabcdefgh
key&equals;abcdefgh
key\u200b=abcdefgh
token\tabcdefgh1
token\n\nabcdefgh1
the key ending in abcdefgh1
key with value abcdefgh
key named abcdefgh1
Your API key, abcdefgh, is invalid
Your API key abcdefgh is invalid
API key "abcdefgh" not found
API key abcdefgh not found
No API key matches abcdefgh1
abcdefgh is not a known token
`abcdefgh` is an unknown API key
The provided API key (abcdefgh) is unknown
Bearer "abcdefgh"
Bearer: "abcdefgh"
Bearer <abcdefgh>
""".strip().splitlines(),
    # Escaped and invisible characters.
    'password \u2192 abcdefgh',
    '\uff48\uff54\uff54\uff50\uff53\uff1a\uff0f\uff0fabcdefgh',
    'ht\u200btps://abcdefgh',
    'https:\u2215\u2215abcdefgh',
    'x-api-key:\tabcdefgh',
    'api\u200b_key=abcdefgh',
    '\uff41\uff50\uff49\uff3f\uff4b\uff45\uff59\uff1dabcdefgh',
    'Password \u201cabcdefgh\u201d',
    '\uff2b\uff25\uff39\uff1dabcdefgh',
    'k\u200bey=abcdefgh',
    'ke\xady=abcdefgh',
    'key\u2026abcdefgh1',
]
GENERATED_KEYS = """
x7Kp9Qz2mN
9f8e7d6c5b
AKIAIOSFODNN7EXAMPLE
AIzaSyD-abc9Xy_1234567890
ghp_16C7e42F292c6912E7710c838347Ae178B4a
eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP
ab12-cd34-ef56-gh78
sk-abcdefgh
AbCdEfGhIjKlMnOp
deadbeefcafebabe
SG.aBc9.dEf8gH7
whsec_MfKQ9r8
550e8400-e29b-41d4-a716-446655440000
aHR0cHM6Ly94Lnk=
npm_abC9dE8fG7hI6
12345678901234567890123
rk_test_4eC39HqL
hf_qWeRtYuIoPaSdFgH
r8_Xx9Yy8Zz7Ww6
01HZX3K9P7Q2M5N8R4T6V0W1Y3
qwertzuiopasdfghjklyxcvbnm
""".strip().splitlines()
# fmt: on
