// Browsers start no Worker from a file. Where the site is opened as files, the worker of the search
// runs in a hidden frame instead. Material looks for a script of this name; its own is on a server.

if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const script = this.frame.contentDocument.createElement("script");
      this.loaded = new Promise((resolve) => script.addEventListener("load", resolve));
      this.frame.contentWindow.postMessage = (data) => deliver(data, this);
      script.src = url;
      this.frame.contentDocument.body.append(script);
    }

    async postMessage(data) {
      await this.loaded;
      deliver(data, this.frame.contentWindow);
    }

    terminate() {
      this.frame.remove();
    }
  };

  function deliver(data, target) {
    setTimeout(() => target.dispatchEvent(new MessageEvent("message", { data })));
  }
}
