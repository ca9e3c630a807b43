//! A client of a few lines as `python-bitcoinrpc` is: HTTP and JSON of Python's own library. Without Python it says so.

use std::process::Command;

use super::World;

const SCRIPT: &str = r#"
import base64, decimal, http.client, json, sys
port, cookie = int(sys.argv[1]), open(sys.argv[2]).read().strip()
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
head = {"Authorization": "Basic " + base64.b64encode(cookie.encode()).decode(), "Content-Type": "application/json"}
def post(body):
    connection.request("POST", "/", json.dumps(body), head)
    return json.loads(connection.getresponse().read().decode(), parse_float=decimal.Decimal)
def call(name, *params):
    reply = post({"version": "1.1", "method": name, "params": params, "id": 1})
    assert reply["id"] == 1, reply
    if reply["error"] is not None:
        raise Exception(reply["error"])
    return reply["result"]
assert call("getblockcount") == 0
genesis = call("getblockhash", 0)
assert call("getblock", genesis)["hash"] == genesis
replies = post([{"version": "1.1", "method": "getblockhash", "params": [h], "id": h} for h in (0, 5)])
assert replies[0]["result"] == genesis and replies[1]["error"]["code"] == -8, replies
try:
    call("nosuchmethod")
    raise SystemExit("a method that is not there was found")
except Exception as error:
    assert error.args[0]["code"] == -32601, error
assert call("getmempoolinfo")["minrelaytxfee"] == decimal.Decimal("0.00000100")
print("ok")
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bare_python_client_is_served() {
    if !Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("python3 is not there: the bare client was not run");
        return;
    }
    let world = World::start().await;
    let script = world.folder.path().join("client.py");
    std::fs::write(&script, SCRIPT).unwrap();
    let output =
        Command::new("python3").arg(&script).arg(world.port().to_string()).arg(world.cookie_file()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ok");
}
