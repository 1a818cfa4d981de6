(function(){
const figure=document.currentScript.parentElement, at=s=>figure.querySelector(s);
const data=JSON.parse(at('script[type="application/json"]').textContent);
const input=at('input'), output=at('output'), plot=at('.pq-widget-plot'), caption=at('figcaption');
const W=640,H=340,L=58,R=14,T=12,B=46;
const all=k=>k.flat(2).filter(v=>v!==null);
const xs=all(data.x), ys=all(data.curves.map(c=>c.y));
const x0=Math.min(...xs),x1=Math.max(...xs),y0=Math.min(0,...ys),y1=Math.max(...ys);
const X=v=>L+(v-x0)/(x1-x0||1)*(W-L-R), Y=v=>H-B-(v-y0)/(y1-y0||1)*(H-T-B);
function ticks(a,b,n){const s=(b-a)/n,p=Math.pow(10,Math.floor(Math.log10(s)));
 const u=[1,2,5,10].map(k=>k*p).find(k=>k>=s)||s,o=[];
 for(let v=Math.ceil(a/u)*u;v<=b+1e-9*u;v+=u)o.push(Number(v.toPrecision(10)));return o;}
function draw(){const i=Number(input.value);
 let s='<svg viewBox="0 0 '+W+' '+H+'" aria-hidden="true" font-size="15" fill="currentColor">';
 for(const v of ticks(x0,x1,7))s+='<line x1="'+X(v)+'" x2="'+X(v)+'" y1="'+T+'" y2="'+(H-B)+
  '" stroke="currentColor" opacity=".13"/><text x="'+X(v)+'" y="'+(H-B+18)+'" text-anchor="middle">'+v+'</text>';
 for(const v of ticks(y0,y1,5))s+='<line x1="'+L+'" x2="'+(W-R)+'" y1="'+Y(v)+'" y2="'+Y(v)+
  '" stroke="currentColor" opacity=".13"/><text x="'+(L-8)+'" y="'+(Y(v)+5)+'" text-anchor="end">'+v+'</text>';
 s+='<text x="'+((L+W-R)/2)+'" y="'+(H-6)+'" text-anchor="middle">'+data.xLabel+'</text>';
 s+='<text transform="translate(14 '+((T+H-B)/2)+') rotate(-90)" text-anchor="middle">'+data.yLabel+'</text>';
 data.curves.forEach((c,k)=>{let d='',pen=false;c.y[i].forEach((v,j)=>{const x=data.x[i][j];
  if(v===null||x===null){pen=false;return;}d+=(pen?'L':'M')+X(x).toFixed(1)+' '+Y(v).toFixed(1);pen=true;});
  const colour='var(--pq-'+c.role+','+c.colour+')';
  s+='<path d="'+d+'" fill="none" style="stroke:'+colour+'" stroke-width="3" stroke-dasharray="'+c.dash+'"/>';
 });s+='</svg><ul class="pq-widget-key">';
 for(const c of data.curves)s+='<li><svg width="30" height="10" aria-hidden="true">'+
  '<line x1="0" x2="30" y1="5" y2="5" stroke-width="3" style="stroke:var(--pq-'+c.role+','+c.colour+
  ')" stroke-dasharray="'+c.dash+'"/></svg> '+c.label+'</li>';
 plot.innerHTML=s+'</ul>';output.textContent=data.stops[i];input.setAttribute('aria-valuetext',data.stops[i]);
 clearTimeout(timer);timer=setTimeout(()=>{caption.textContent=data.readings[i];},250);}
let timer;
input.addEventListener('input',draw);draw();
})();
