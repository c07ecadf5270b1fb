import socket, time, json, http.client
from skerry.server.context import RoleContext
from tests.server.starting import bootstrapped, keyring
from tests.server.test_openapi import running

def rss():
    return int(open("/proc/self/statm").read().split()[1])*4096/2**20

def test_mem(settings, database_url):
    made = bootstrapped(settings, database_url)
    opened = socket.create_server(("127.0.0.1", 0)); port = opened.getsockname()[1]
    with running(RoleContext(settings, keyring(), database_url, server_socket=opened)):
        line=lambda i: json.dumps({"custom_id":"%06d"%i,"method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[{"role":"user","content":"x"*8000}]}}).encode()+b"\n"
        head=b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        n=30000
        size=len(line(0))
        total=len(head)+n*size+len(b"\r\n--b--\r\n")
        for attempt in range(2):
            c=http.client.HTTPConnection("127.0.0.1",port,timeout=60)
            before=rss(); t=time.time(); peak=0
            c.putrequest("POST","/v1/files"); c.putheader("authorization","Bearer "+made.project_key); c.putheader("content-type","multipart/form-data; boundary=b"); c.putheader("content-length",str(total)); c.endheaders()
            c.send(head)
            for k in range(0,n,100):
                c.send(b"".join(line(i) for i in range(k,k+100))); peak=max(peak,rss())
            c.send(b"\r\n--b--\r\n")
            r=c.getresponse(); body=r.read(); 
            print(r.status, body[:100], "MiB", total/2**20, "s", time.time()-t, "rss", before, peak)
            c.close()
        id=json.loads(body)["id"]
        t=time.time(); c=http.client.HTTPConnection("127.0.0.1",port); c.request("GET",f"/v1/files/{id}/content",headers={"authorization":"Bearer "+made.project_key}); r=c.getresponse(); got=0
        while d:=r.read(1<<20): got+=len(d)
        print("down",got/2**20,time.time()-t,"rss",rss())
        c=http.client.HTTPConnection("127.0.0.1",port,timeout=60)
        c.putrequest("POST","/v1/files"); c.putheader("authorization","Bearer "+made.project_key); c.putheader("content-type","multipart/form-data; boundary=b"); c.putheader("content-length",str(total)); c.endheaders()
        c.send(head); c.send(b"{bad\n")
        sent=0
        try:
            for k in range(0,n,100):
                c.send(b"".join(line(i) for i in range(k,k+100))); sent+=100*size
        except OSError as e: print("send failed", e, sent/2**20)
        print("sent", sent/2**20)
        r=c.getresponse(); print(r.status, r.read()[:200])
        c.send(b"\r\n--b--\r\n")
        c.request("GET","/healthz"); r=c.getresponse(); print("same connection", r.status)
        print([str(p) for p in settings.files.rglob("*.part")])
